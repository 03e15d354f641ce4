"""Exports: every user's row is what an answer says, in every format, and what cannot be written is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from recserver._internal.core.errors import ExportFailed, InvalidInput, UnreadableModel
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import ExportOptions
from recserver._internal.training.export import export_worker as exports
from recserver._internal.training.export.export_job import (
    EXTENSIONS,
    ExportJob,
    ExportProgress,
    FileTarget,
    check_file,
    check_table,
)
from recserver._internal.training.export.export_worker import export
from tests.helpers.exported import ODD_IDS, in_file, wanted, write_crowd
from tests.helpers.film_models import put_films

WISHES: list[dict[str, Any]] = [
    {},
    {"n": 1},
    {"exclude_seen": False, "n": 20},
    {"filter": ["genre=Comedy", "price<10"]},
    {"filter": [{"attribute": "genre", "values": ["Horror", "Drama"]}], "exclude": ["jaws"], "n": 2},
    {"boost": ["genre=Sci-Fi*3", {"filter": "price>=9", "factor": 0.5}], "exclude_seen": False},
    {"candidates": ["heat", "big", "nobody's"]},
    {"candidates": []},
    {"max_per": ["genre:1"], "diversity": 0.4, "exclude_seen": False},
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_films(tmp_path_factory.mktemp("films"))


def parsed(wishes: dict[str, Any]) -> dict[str, Any]:
    return dict(TypeAdapter(ExportOptions).validate_python(wishes))


def job(model: Path, out: Path, wishes: dict[str, Any] | None = None) -> ExportJob:
    """As it comes to a worker: by way of JSON."""
    ending = next(one for one in EXTENSIONS if out.name.endswith(one))
    made = ExportJob(
        model_id=model.stem, model=model, options=ExportOptions(**parsed(wishes or {})),
        target=FileTarget(out=out, extension=ending),
    )  # fmt: skip
    return ExportJob.model_validate_json(made.model_dump_json())


@pytest.mark.parametrize("wishes", WISHES, ids=str)
def test_what_is_exported_is_what_is_recommended(films: Path, tmp_path: Path, wishes: dict[str, Any]) -> None:
    result = export(job(films, tmp_path / "top.parquet", wishes), lambda _: None)
    expected = wanted(films, Query.from_options(parsed(wishes)))
    assert in_file(tmp_path / "top.parquet", "films") == expected
    assert (result.rows, result.users, result.model_version) == (len(expected), 10, 1)


def test_users_for_whom_nothing_is_left_have_no_rows(films: Path, tmp_path: Path) -> None:
    export(job(films, tmp_path / "top.csv"), lambda _: None)
    users = {user for user, *_ in in_file(tmp_path / "top.csv", "films")}
    assert "eve" not in users and len(users) == 9  # she has seen everything


@pytest.mark.parametrize("ending", EXTENSIONS)
def test_odd_ids_come_back_from_every_format(tmp_path: Path, ending: str) -> None:
    model = write_crowd(tmp_path / "odd.pkl", ODD_IDS, [f"{one}!" for one in ODD_IDS])
    export(job(model, tmp_path / f"top{ending}", {"n": 1000}), lambda _: None)
    rows = in_file(tmp_path / f"top{ending}", "odd")
    assert rows == wanted(model, Query(n=1000)) and len(rows) == len(ODD_IDS) ** 2


@pytest.mark.parametrize("ending", EXTENSIONS)
def test_a_file_without_rows_is_one_all_the_same(films: Path, tmp_path: Path, ending: str) -> None:
    result = export(job(films, tmp_path / f"top{ending}", {"candidates": []}), lambda _: None)
    assert result.rows == 0 and in_file(tmp_path / f"top{ending}", "films") == []


@pytest.mark.parametrize(("together", "rows"), [(1, 1), (3, 7), (4, 1000)])
def test_the_size_of_batches_changes_nothing(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int, rows: int
) -> None:
    monkeypatch.setattr(exports, "USERS_PER_BATCH", together)
    monkeypatch.setattr(exports, "ROWS_PER_WRITE", rows)
    result = export(job(films, tmp_path / "top.parquet"), lambda _: None)
    assert in_file(tmp_path / "top.parquet", "films") == wanted(films)
    assert result.rows == len(wanted(films))


def test_parquet_has_plain_kinds_and_small_pages_of_ids(films: Path, tmp_path: Path) -> None:
    export(job(films, tmp_path / "top.parquet"), lambda _: None)
    kinds = pa.string(), pa.int64(), pa.string(), pa.int32(), pa.string(), pa.float64()
    assert tuple(pq.read_schema(tmp_path / "top.parquet").types) == kinds
    group = pq.ParquetFile(tmp_path / "top.parquet").metadata.row_group(0)
    columns = [group.column(place) for place in range(6)]
    assert {one.compression for one in columns} == {"ZSTD"}
    assert ["RLE_DICTIONARY" in one.encodings for one in columns] == [True] * 5 + [False]


def test_it_tells_how_far_it_is(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "USERS_PER_BATCH", 4)
    monkeypatch.setattr(exports, "REPORT_INTERVAL", 0.0)
    told: list[ExportProgress] = []
    export(job(films, tmp_path / "top.csv"), told.append)
    assert [(one.users_done, one.users) for one in told] == [(0, 10), (4, 10), (8, 10), (10, 10)]


def test_what_cannot_be_done_is_said_before_anything_is_told(films: Path, tmp_path: Path) -> None:
    told: list[ExportProgress] = []
    with pytest.raises(InvalidInput, match="knows no attribute"):
        export(job(films, tmp_path / "top.csv", {"filter": "year=1"}), told.append)
    with pytest.raises(ExportFailed, match=r"could not be written \(No such file or directory.*check the disk"):
        export(job(films, tmp_path / "no" / "top.csv"), told.append)
    (tmp_path / "broken.pkl").write_bytes(films.read_bytes()[:-1])
    with pytest.raises(UnreadableModel):
        export(job(tmp_path / "broken.pkl", tmp_path / "top.csv"), told.append)
    with pytest.raises(ExportFailed, match=r"cannot be read \(No such file"):
        export(job(tmp_path / "gone.pkl", tmp_path / "top.csv"), told.append)
    assert told == [] and not list(tmp_path.glob("top*"))


def test_a_disk_that_is_full_is_told(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportFailed) as failure:
        export(job(films, tmp_path / "top.csv"), lambda _: None)
    assert str(failure.value) == (
        "The file could not be written (No space left on device): check the disk and its permissions."
    )


@pytest.mark.parametrize("wishes", WISHES, ids=str)
def test_options_are_the_same_after_json(tmp_path: Path, wishes: dict[str, Any]) -> None:
    assert job(tmp_path / "m.pkl", tmp_path / "top.csv", wishes).options == parsed(wishes)


@pytest.mark.parametrize("name", ["top.parquet", "TOP.Csv", "a-b_c.1.csv.gz", "x.jsonl"])
def test_names_of_files(name: str) -> None:
    assert check_file(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".csv", "top", "top.txt", "a/b.csv", "../b.csv", "/b.csv", "a\\b.csv", ".b.csv", "a..b.csv", "a b.csv",
     "b.csv\n", "nul.csv", "top.csv/", "C:b.csv", f"{'a' * 100}.csv", 5, None, ["b.csv"]],
)  # fmt: skip
def test_other_names_of_files_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r"^must be the name of a file, without a folder"):
        check_file(name)


@pytest.mark.parametrize(
    "name", ["", "a.b.c", "a-b", "1a", 'a"b', "a b", "a;", "a.", ".a", "a\n", "a" * 64, 5, None]
)
def test_other_names_of_tables_are_refused(name: object) -> None:
    assert check_table("shop.top_10") == "shop.top_10"
    with pytest.raises(ValueError, match=r"^must be the name of a table"):
        check_table(name)
