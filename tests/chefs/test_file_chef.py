"""The CSV chef reads common variants of CSV files, and reports errors in others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.chefs.files import strict_csv as csv_text
from recserver._internal.chefs.files.file_chef import CsvChef
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import InvalidInput, SourceFailed
from recserver._internal.training.ingest.id_encoding import to_list

pytestmark = pytest.mark.process

HEADER = b"user_id,item_id,rating\n"

BAD_CSV_PATHS = [
    "/etc/passwd",
    "../../etc/passwd",
    "file:///etc/passwd",
    "http://169.254.169.254/",
    "s3://b/k",
    "/dev/zero",
    "/proc/self/environ",
    "\\\\host\\share\\x.csv",
    "data/../config/restaurant_data.yaml",
    "models/a.pkl",
    "a.csv\x00.txt",
    "",
    " ",
    "~/x.csv",
    "~root",
    "//host/share/x.csv",
    "C:/x.csv",
    "a\nb.csv",
    "CONFIG/restaurant_data.yaml",
    "tasks/t.json",
    "./x/../models/m_config.json",
    ".lock",
    "..",
]

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]


def chef(policy: SourcePolicy, content: bytes | None = None, path: str = "x.csv") -> CsvChef:
    if content is not None:
        (policy.data_dir / path).write_bytes(content)
    return CsvChef({"type": "csv", "path": path, "rename_columns": ""}, policy)


def test_values_are_taken_as_written(policy: SourcePolicy, table: Read) -> None:
    content = HEADER + b'NA,007, 4\nnull,"a,""b""\nc",nan\n\n1e999,\xc3\xa9,-1\n'
    found, columns = table(chef(policy, content))
    assert found == ("user_id", "item_id", "rating")
    assert columns == {
        "user_id": ["NA", "null", "1e999"],
        "item_id": ["007", 'a,"b"\nc', "é"],
        "rating": [" 4", "nan", "-1"],
    }


@pytest.mark.parametrize(
    ("content", "users", "items"),
    [
        (b"\xef\xbb\xbfuser_id,item_id\nu,i\n", ["u"], ["i"]),
        (b"user_id,item_id\r\nu,i\r\nv,j", ["u", "v"], ["i", "j"]),
        (b"user_id,item_id\ru,i\r", ["u"], ["i"]),
        (b'\n \n"user_id" , item_id\nu,i\n', ["u"], ["i"]),
        (b"item_id,other,user_id\ni,x,u\n", ["u"], ["i"]),
        (b"user_id,item_id\nu\n,i\nv,j,\n", ["u", "", "v"], ["", "i", "j"]),
        (b"user_id,item_id\nu,i,extra\nv,j\nw,k,,x\nx,l,1,2,3\n", ["v", "w"], ["j", "k"]),
        (b"user_id,item_id\nu," + b"i" * 2_000_000 + b"\n", ["u"], ["i" * 2_000_000]),
        (b"user_id,item_id\n", [], []),
        (b"user_id,item_id", [], []),
        (b'user_id,item_id\nu,"i"x\n', ["u"], ["ix"]),
    ],
)
def test_unusual_files_are_read(
    policy: SourcePolicy, table: Read, content: bytes, users: list[str], items: list[str]
) -> None:
    found, columns = table(chef(policy, content))
    assert {"user_id", "item_id"} <= set(found)
    assert columns == {"user_id": users, "item_id": items}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"user_id,user_id,item_id\na,b,c\n", "two columns named 'user_id'"),
        (b'user_id,item_id\n"u,i\n', "quote in data row 1"),
        (b'user_id,item_id\nu,i\nv,"j\n', "quote in data row 2"),
        (b'"user_id,item_id\n' + b"u,i\n" * 50_000, "no readable header"),
        (b"user_id,item_id\nu,\x00\n", "NUL character at line 2"),
        (b"user_id,item_id\n\xff,i\n", "not UTF-8 at line 2"),
        (b"user_id,item_id\n" + b"u,i\n" * 600_000 + b"u,\xe9\n", "not UTF-8 at line 600002"),
        (b"\xffuser_id,item_id\n", "not UTF-8 at line 1"),
        ("user_id,item_id\nu,i\n".encode("utf-16")[:-1], "not utf-16 at line 2"),
        (b"u\x00s\x00", "NUL character at line 1"),
        (b"user_id,item_id\nu,i\xc3", "not UTF-8 at line 2"),
        (b"x" * (2**20 + 1), "no readable header"),
    ],
)
def test_unreadable_files_are_reported(policy: SourcePolicy, table: Read, content: bytes, sentence: str) -> None:
    with pytest.raises(SourceFailed, match=sentence) as caught:
        table(chef(policy, content))
    assert str(caught.value).startswith("The file 'x.csv' ")
    assert "C error" not in str(caught.value)


def test_an_open_quote_is_reported_before_the_end_of_the_file(
    policy: SourcePolicy, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_text, "MAX_BATCH_CHARS", 2_000_000)
    with pytest.raises(SourceFailed, match="open quote"):
        table(chef(policy, HEADER + b'u,"i,1\n' + b"u,i,1\n" * 1_000_000))


def test_missing_columns_are_left_out(policy: SourcePolicy) -> None:
    (batch,) = chef(policy, b"userId,movieId\nu,i\n").batches({"user_id", "item_id"})
    assert batch.column_names == ("userId", "movieId")
    assert batch.n_rows == 0
    duplicate_elsewhere = chef(policy, b"user_id,x,x\nu,1,2\n").batches({"user_id", "item_id"})
    assert [batch.n_rows for batch in duplicate_elsewhere] == [0, 1]


def test_long_files_are_read_in_batches_in_order(policy: SourcePolicy) -> None:
    rows = 10_007
    content = b"user_id,item_id\n" + b"".join(b"u%d,i\n" % number for number in range(rows))
    small = policy.model_copy(update={"batch_rows": 20})
    batches = list(chef(small, content).batches({"user_id"}))
    assert sum(1 for batch in batches if batch.n_rows) > 10
    users = [user for batch in batches for user in to_list(batch.columns["user_id"])]
    assert users == [f"u{number}" for number in range(rows)]
    assert sum(batch.n_bytes for batch in batches) == len(content)


@pytest.mark.parametrize("path", BAD_CSV_PATHS)
def test_invalid_paths_are_rejected_at_creation(policy: SourcePolicy, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        chef(policy, path=path)
    assert caught.value.errors[0].loc == ("path",)


@pytest.mark.parametrize("entry", [{}, {"path": None}, {"path": 1}, {"path": "x.csv", "rename_columns": "a"}])
def test_invalid_entries_are_rejected(policy: SourcePolicy, entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        CsvChef({"type": "csv", **entry}, policy)
    assert caught.value.errors


def test_unknown_keys_are_ignored(policy: SourcePolicy) -> None:
    CsvChef({"type": "csv", "path": "x.csv", "note": "mine", "rename_columns": None}, policy)


def test_configured_roots_can_be_read_except_recserver_files(data_dir: Path, tmp_path: Path) -> None:
    policy = SourcePolicy(data_dir=data_dir, csv_roots=(tmp_path,))
    CsvChef({"path": str(tmp_path / "other" / "x.csv")}, policy)
    for own in ("models/m.pkl", "config/restaurant_data.yaml"):
        with pytest.raises(InvalidInput, match="own files"):
            CsvChef({"path": str(data_dir / own)}, policy)


def test_symbolic_links_to_other_folders_are_rejected(policy: SourcePolicy, tmp_path: Path, table: Read) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("user_id,item_id\nu,i\n")
    inside = policy.data_dir / "link.csv"
    inside.symlink_to(secret)
    with pytest.raises(InvalidInput, match="outside the data folder"):
        chef(policy, path="link.csv")
    inside.unlink()
    early = chef(policy, path="link.csv")
    inside.symlink_to(secret)
    assert "outside" in early.warnings()[0]
    with pytest.raises(SourceFailed, match="outside the data folder"):
        table(early)
    (policy.data_dir / "loop.csv").symlink_to(policy.data_dir / "loop.csv")
    for path in ("loop.csv", "loop.csv/x.csv"):
        with pytest.raises(InvalidInput, match="symbolic links form a loop"):
            chef(policy, path=path)


def test_a_missing_file_is_a_warning_then_a_failure(policy: SourcePolicy, table: Read) -> None:
    missing = chef(policy)
    assert "There is no file 'x.csv'" in missing.warnings()[0]
    with pytest.raises(SourceFailed, match=r"There is no file 'x\.csv'"):
        table(missing)
    assert chef(policy, HEADER).warnings() == []


def test_only_regular_files_are_read(policy: SourcePolicy, table: Read) -> None:
    os.mkfifo(policy.data_dir / "pipe.csv")
    (policy.data_dir / "folder.csv").mkdir()
    for path in ("pipe.csv", "folder.csv"):
        assert "not a regular file" in chef(policy, path=path).warnings()[0]
        with pytest.raises(SourceFailed, match="not a regular file"):
            table(chef(policy, path=path))


def test_a_path_can_contain_an_environment_variable(
    policy: SourcePolicy, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    chef(policy, b"user_id,item_id\nu,i\n")
    late = chef(policy, path="${FOLDER}/x.csv")
    monkeypatch.delenv("FOLDER", raising=False)
    assert late.warnings() == ["The environment variable FOLDER is not set."]
    monkeypatch.setenv("FOLDER", str(policy.data_dir))
    assert late.warnings() == []
    assert table(late)[1] == {"user_id": ["u"], "item_id": ["i"]}
    monkeypatch.setenv("FOLDER", "/etc")
    with pytest.raises(SourceFailed, match="outside the data folder"):
        table(late)


def test_constructing_chefs_imports_nothing_heavy() -> None:
    code = """
import sys
from pathlib import Path
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.files.file_chef import CsvChef
policy = SourcePolicy(data_dir=Path("data"))
CsvChef({"path": "x.csv"}, policy).warnings()
heavy = {"pandas", "pyarrow", "sklearn", "sqlalchemy", "sqlglot", "ijson", "aiohttp"}
print(*heavy.intersection(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
