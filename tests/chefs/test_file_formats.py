"""File formats: compression, delimiters, encodings, JSON lines, Parquet, Arrow, and damaged files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from recserver._internal.chefs.files import decompression as source_file
from recserver._internal.chefs.files import fast_csv as csv_blocks
from recserver._internal.chefs.files.file_chef import CsvChef, format_from_name
from recserver._internal.chefs.protocol import Rejection
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import InvalidInput, SourceFailed

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]

TEXT = "user_id,item_id\n" + "".join(f"u{n},é{n % 7}\n" for n in range(500))
COLUMNS = {"user_id": [f"u{n}" for n in range(500)], "item_id": [f"é{n % 7}" for n in range(500)]}


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return packed


PACKERS = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": zstd}


def chef(policy: SourcePolicy, content: bytes | None = None, path: str = "x.csv", **entry: Any) -> CsvChef:
    if content is not None:
        (policy.data_dir / path).write_bytes(content)
    return CsvChef({"type": "csv", "path": path, **entry}, policy)


def failure(read: Read, *args: Any, **entry: Any) -> str:
    with pytest.raises(SourceFailed) as caught:
        read(chef(*args, **entry), None)
    return str(caught.value)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("given", [True, False])
def test_compressed_files_are_read_regardless_of_their_name(
    policy: SourcePolicy, table: Read, kind: str, given: bool
) -> None:
    packed = PACKERS[kind](TEXT.encode())
    one = chef(policy, packed, path="x.dat", **({"compression": kind} if given else {}))
    assert table(one) == (("user_id", "item_id"), COLUMNS)
    assert sum(batch.n_bytes for batch in one.batches(None)) == len(packed)


@pytest.mark.parametrize("kind", PACKERS)
def test_concatenated_streams_are_read_completely(policy: SourcePolicy, table: Read, kind: str) -> None:
    half = len(TEXT) // 2
    parts = [PACKERS[kind](part.encode()) for part in (TEXT[:half], TEXT[half:])]
    assert table(chef(policy, b"".join(parts)))[1] == COLUMNS


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_damaged_compressed_files_are_reported(policy: SourcePolicy, table: Read, kind: str, damage: str) -> None:
    packed = PACKERS[kind](TEXT.encode())
    # Arrow writes Zstandard without checksums: only damage to its structure can be detected
    start = 4 if kind == "zstd" else 60
    broken = (
        packed[: len(packed) // 2] if damage == "truncated" else packed[:start] + bytes(40) + packed[start + 40 :]
    )
    assert failure(table, policy, broken) == f"The file 'x.csv' is a damaged {kind} file: create it again."


def test_a_wrong_compression_is_reported(policy: SourcePolicy, table: Read) -> None:
    assert failure(table, policy, TEXT.encode(), compression="gzip") == (
        "The file 'x.csv' is not compressed by gzip: correct its compression, or leave it out."
    )


def test_decompression_bombs_are_rejected(
    policy: SourcePolicy, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = gzip.compress(b"user_id,item_id\n" + b"u,i\n" * 3_000_000)
    monkeypatch.setattr(source_file, "RATIO_CHECK_BYTES", 2**20)
    assert failure(table, policy, bomb) == (
        "The file 'x.csv' becomes more than 200 times larger by decompression, which is unusual for a table: "
        "if it is correct, decompress it yourself."
    )
    capped = policy.model_copy(update={"max_file_bytes": 5_000_000})
    monkeypatch.setattr(source_file, "MAX_RATIO", 10**6)
    assert failure(table, capped, bomb) == (
        "The file 'x.csv' holds more than 5000000 bytes: split it, or raise RECSERVER_MAX_FILE_BYTES."
    )


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_delimiters_are_detected_or_given(policy: SourcePolicy, table: Read, mark: str) -> None:
    content = TEXT.replace(",", mark).encode()
    assert table(chef(policy, content))[1] == table(chef(policy, delimiter=mark))[1] == COLUMNS
    assert table(chef(policy, TEXT.replace(",", "^").encode(), delimiter="^"))[1] == COLUMNS


def test_a_quoted_comma_in_the_header_does_not_change_the_delimiter(policy: SourcePolicy, table: Read) -> None:
    found, columns = table(chef(policy, b'user_id;item_id;"a,b"\nu;i;x\n'))
    assert found == ("user_id", "item_id", "a,b")
    assert columns == {"user_id": ["u"], "item_id": ["i"]}


def test_a_wrong_delimiter_is_reported(policy: SourcePolicy, table: Read) -> None:
    assert failure(table, policy, TEXT.encode(), delimiter=";") == (
        "The file 'x.csv' seems to be separated by ',', not by ';': correct its delimiter, or leave it out."
    )


@pytest.mark.parametrize(
    ("encoding", "given"),
    [
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-16-le", "utf-16-le"),
        ("cp1252", "cp1252"),
        ("latin-1", "latin1"),
    ],
)
def test_encodings_are_detected_or_given(
    policy: SourcePolicy, table: Read, encoding: str, given: str | None
) -> None:
    assert table(chef(policy, TEXT.encode(encoding), encoding=given))[1] == COLUMNS


def test_text_in_another_encoding_is_reported(policy: SourcePolicy, table: Read) -> None:
    assert failure(table, policy, TEXT.encode("cp1252")) == (
        "The file 'x.csv' is not UTF-8 at line 2: save it as UTF-8, or give its encoding, such as cp1252."
    )
    assert failure(table, policy, b"a,b\n\x81,x\n", encoding="cp1252") == (
        "The file 'x.csv' is not cp1252 at line 2: correct its encoding."
    )


def test_a_row_without_an_end_does_not_exhaust_memory(
    policy: SourcePolicy, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "MAX_ROW_BYTES", 2**20)
    small = policy.model_copy(update={"batch_rows": 100})
    assert failure(table, small, b"a,b\n" + b"u,i" * 10**6) == (
        "The file 'x.csv' has a row longer than 1 MiB after line 2: check for missing line ends."
    )
    assert failure(table, small, b'a,b\nu,"i\n' + b"u,i\n" * 10**6) == (
        "The file 'x.csv' has a quote in data row 1 that is never closed: close it, or double it."
    )


def test_duplicate_column_names_cannot_be_requested(policy: SourcePolicy, table: Read) -> None:
    twice = b"user_id,x,x,item_id\nu,1,2,i\n"
    assert table(chef(policy, twice), {"user_id", "item_id"})[1] == {"user_id": ["u"], "item_id": ["i"]}
    assert table(chef(policy, twice), None) == (
        ("user_id", "x", "x", "item_id"),
        {"user_id": ["u"], "item_id": ["i"]},
    )
    with pytest.raises(SourceFailed) as caught:
        table(chef(policy, twice), {"x"})
    assert str(caught.value) == "The file 'x.csv' has two columns named 'x': rename one of them in its header."


@pytest.mark.parametrize(
    ("entry", "field", "sentence"),
    [
        ({"delimiter": ",,"}, "delimiter", "must be one character, such as ; or a tab"),
        ({"delimiter": '"'}, "delimiter", "must be one character, such as ; or a tab"),
        ({"delimiter": "a"}, "delimiter", "must be one character, such as ; or a tab"),
        ({"encoding": "klingon"}, "encoding", "'klingon' is not a text encoding: give one, such as cp1252"),
        ({"encoding": "base64"}, "encoding", "'base64' is not a text encoding: give one, such as cp1252"),
        ({"format": "xlsx"}, "format", "must be 'csv', 'jsonl', 'parquet' or 'arrow'"),
        ({"compression": "rar"}, "compression", "must be 'none', 'gzip', 'bz2', 'xz' or 'zstd'"),
    ],
    ids=repr,
)
def test_invalid_entries_are_rejected(
    policy: SourcePolicy, entry: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        chef(policy, **entry)
    assert [(one.loc, one.msg) for one in caught.value.errors] == [((field,), sentence)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", "csv"), ("a.txt", "csv"), ("a", "csv"), ("a.JSONL", "jsonl"), ("a.ndjson.gz", "jsonl"),
     ("b/a.parquet", "parquet"), ("a.arrow", "arrow"), ("b/a.Feather", "arrow"), ("a.csv.zst", "csv"),
     ("a.gz", "csv")],
)  # fmt: skip
def test_the_format_is_detected_from_the_name(name: str, kind: str) -> None:
    assert format_from_name(name) == kind


def lines(*rows: object) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def test_json_lines_keep_their_types(policy: SourcePolicy, table: Read) -> None:
    rows = [{"user_id": "u", "item_id": 7, "rating": 4.5}, {"item_id": True, "user_id": None, "more": [1]},
            {"user_id": {"a": 1}, "item_id": 2**70}]  # fmt: skip
    for content, path in ((lines(*rows) + b"\n\n", "x.jsonl"), (gzip.compress(lines(*rows)), "x.ndjson.gz")):
        found, columns = table(chef(policy, content, path=path))
        assert found == ("user_id", "item_id", "rating", "more")
        assert columns == {
            "user_id": ["u", None, {"a": 1}],
            "item_id": [7, True, 2**70],
            "rating": [4.5, None, None],
        }
    assert table(chef(policy, path="x.jsonl"), None)[1]["more"] == [None, [1], None]


def test_json_lines_are_read_in_batches_and_non_objects_are_rejected(policy: SourcePolicy) -> None:
    small = policy.model_copy(update={"batch_rows": 3})
    content = lines({"user_id": 1}, 7, {"user_id": 2}, "x", [1], None, {"user_id": 3})
    batches = list(chef(small, content, path="x.jsonl").batches({"user_id"}))
    assert [len(batch.columns.get("user_id", [])) for batch in batches] == [2, 0, 1]
    assert [batch.rejected for batch in batches] == [
        (Rejection("is not a JSON object", 1, "7"),), (Rejection("is not a JSON object", 3, '"x"'),), (),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b'{"a": 1}\n{"a": \n',
            "is not valid JSON at line 2: it must contain one JSON object per line, in UTF-8.",
        ),
        (
            b'\n\n{"a": "\xff"}\n',
            "is not valid JSON at line 3: it must contain one JSON object per line, in UTF-8.",
        ),
        (b'{"a": NaN}\n', "is not valid JSON at line 1: it must contain one JSON object per line, in UTF-8."),
        (
            b"user_id,item_id\nu,i\n",
            "is not valid JSON at line 1: it must contain one JSON object per line, in UTF-8.",
        ),
        (b"[" * 100_000, "contains a JSON array: save it as JSON lines, one object per line."),
        (b'[{"a": 1}]\n', "contains a JSON array: save it as JSON lines, one object per line."),
        (b'[\n {"a": 1}\n]', "contains a JSON array: save it as JSON lines, one object per line."),
    ],
)
def test_invalid_json_lines_are_reported_with_their_line(
    policy: SourcePolicy, table: Read, content: bytes, sentence: str
) -> None:
    assert failure(table, policy, content, path="x.jsonl") == f"The file 'x.jsonl' {sentence}"


def parquet_file(folder: Path, **columns: Any) -> None:
    parquet.write_table(pa.table(columns), folder / "x.parquet")


def test_parquet_columns_keep_their_types(policy: SourcePolicy, table: Read) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    parquet_file(policy.data_dir, user_id=["u", None, "w"], item_id=[7, 8, None], rating=[1.5, None, 2.0],
                 at=[noon] * 3, nested=[{"a": 1}] * 3)  # fmt: skip
    found, columns = table(chef(policy, path="x.parquet"), None)
    assert found == ("user_id", "item_id", "rating", "at", "nested")
    assert columns == {"user_id": ["u", None, "w"], "item_id": [7, 8, None], "rating": [1.5, None, 2.0],
                       "at": [noon] * 3, "nested": [{"a": 1}] * 3}  # fmt: skip
    assert table(chef(policy, path="x.parquet"), {"item_id", "absent"})[1] == {"item_id": [7, 8, None]}
    sizes = [batch.n_bytes for batch in chef(policy, path="x.parquet").batches(None)]
    assert sum(sizes) == (policy.data_dir / "x.parquet").stat().st_size


def test_parquet_is_read_in_batches_with_dictionary_encoded_text(policy: SourcePolicy) -> None:
    parquet_file(policy.data_dir, user_id=[f"u{n % 9}" for n in range(1000)], item_id=list(range(1000)))
    batches = list(chef(policy.model_copy(update={"batch_rows": 300}), path="x.parquet").batches(None))
    assert [batch.n_rows for batch in batches] == [0, 300, 300, 300, 100]
    assert isinstance(batches[1].columns["user_id"], pa.DictionaryArray)


@pytest.mark.parametrize("content", [b"", b"user_id,item_id\nu,i\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_files_that_are_not_parquet_are_reported(policy: SourcePolicy, table: Read, content: bytes) -> None:
    assert failure(table, policy, content, path="x.parquet") == (
        "The file 'x.parquet' cannot be read as Parquet: create it again, or correct the format of the data chef."
    )


def test_damaged_and_large_parquet_files_are_reported(policy: SourcePolicy, table: Read) -> None:
    parquet_file(
        policy.data_dir, user_id=[f"user {n * 7919 % 5000}" for n in range(5000)], item_id=list(range(5000))
    )
    small = policy.model_copy(update={"max_file_bytes": 10_000})
    assert failure(table, small, path="x.parquet") == (
        "The file 'x.parquet' holds more than 10000 bytes: split it, or raise RECSERVER_MAX_FILE_BYTES."
    )
    whole = (policy.data_dir / "x.parquet").read_bytes()
    assert "cannot be read as Parquet" in failure(
        table, policy, whole[:2000] + bytes(3000) + whole[5000:], path="x.parquet"
    )


def arrow_file(folder: Path, batch_rows: int | None = None, pack: str | None = None, **columns: Any) -> Path:
    table = pa.table(columns)
    with ipc.new_file(folder / "x.arrow", table.schema, options=ipc.IpcWriteOptions(compression=pack)) as file:
        file.write_table(table, max_chunksize=batch_rows)
    return folder / "x.arrow"


@pytest.mark.parametrize("pack", [None, "lz4", "zstd"])
def test_arrow_columns_come_as_they_lie_in_the_file(policy: SourcePolicy, table: Read, pack: str | None) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    columns = {"user_id": ["u", None, "w"], "item_id": [7, 8, None], "rating": [1.5, None, 2.0], "at": [noon] * 3,
               "nested": [{"a": 1}] * 3}  # fmt: skip
    path = arrow_file(policy.data_dir, 2, pack, **columns)
    assert table(chef(policy, path="x.arrow"), None) == (tuple(columns), columns)
    assert table(chef(policy, path="x.arrow"), {"item_id", "absent"})[1] == {"item_id": [7, 8, None]}
    assert table(chef(policy, path="x.arrow"), {"absent"}) == (tuple(columns), {})
    for wanted in (None, {"item_id"}):
        sizes = [batch.n_bytes for batch in chef(policy, path="x.arrow").batches(wanted)]
        assert sum(sizes) == path.stat().st_size
    (policy.data_dir / "x.dat").write_bytes(path.read_bytes())
    assert table(chef(policy, path="x.dat", format="arrow"), None)[1] == columns


def test_feather_is_read_as_arrow(policy: SourcePolicy, table: Read) -> None:
    feather.write_feather(pa.table(COLUMNS), policy.data_dir / "x.feather")
    assert table(chef(policy, path="x.feather"), None)[1] == COLUMNS


def test_arrow_comes_in_batches_within_those_of_the_file(policy: SourcePolicy) -> None:
    arrow_file(policy.data_dir, 400, user_id=[f"u{n % 9}" for n in range(1000)], item_id=list(range(1000)))
    batches = list(chef(policy.model_copy(update={"batch_rows": 300}), path="x.arrow").batches(None))
    assert [batch.n_rows for batch in batches] == [0, 300, 100, 300, 100, 200]


def test_only_the_wanted_columns_of_one_arrow_batch_are_in_memory(policy: SourcePolicy) -> None:
    n_rows, per_batch = 400_000, 20_000
    columns = {name: np.arange(n_rows) for name in ("user_id", "item_id", "more", "and_more")}
    arrow_file(policy.data_dir, per_batch, **columns)
    before, most = pa.total_allocated_bytes(), 0
    for batch in chef(policy, path="x.arrow").batches({"user_id", "item_id"}):
        most = max(most, pa.total_allocated_bytes() - before)
        del batch
    assert 2 * 8 * per_batch <= most < 3 * 2 * 8 * per_batch


def test_an_arrow_dictionary_larger_than_a_batch_is_resolved(policy: SourcePolicy, table: Read) -> None:
    ids = [f"u{n}" for n in range(900)]
    codes = pa.array([*range(899), None], pa.uint32())
    for kind in (pa.string(), pa.string_view()):
        users = pa.DictionaryArray.from_arrays(codes, pa.array(ids, kind))
        arrow_file(policy.data_dir, user_id=users, few=pa.array(["a", "b", "a"] * 300).dictionary_encode())
        small = policy.model_copy(update={"batch_rows": 300})
        _, first, *_ = chef(small, path="x.arrow").batches(None)
        assert first.columns["user_id"].type == pa.string()
        assert isinstance(first.columns["few"], pa.DictionaryArray)
        assert table(chef(small, path="x.arrow"), {"user_id"})[1] == {"user_id": [*ids[:899], None]}


UNREADABLE_ARROW = "cannot be read as Arrow: create it again, or correct the format of the data chef."


def stream(data: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data)
    written: bytes = sink.getvalue().to_pybytes()
    return written


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", UNREADABLE_ARROW),
        (b"user_id,item_id\nu,i\n", UNREADABLE_ARROW),
        (b"ARROW1\0\0" + bytes(100) + b"ARROW1", UNREADABLE_ARROW),
        (stream(pa.table(COLUMNS)), "is an Arrow stream: write it as an Arrow file."),
        (b"FEA1" + bytes(100) + b"FEA1", "is Feather version 1: write it in version 2."),
    ],
    ids=["empty", "CSV", "zeros", "stream", "version 1"],
)
def test_files_that_are_not_arrow_are_reported(
    policy: SourcePolicy, table: Read, content: bytes, sentence: str
) -> None:
    assert failure(table, policy, content, path="x.feather") == f"The file 'x.feather' {sentence}"


def test_duplicate_column_names_of_arrow_files_are_rejected(policy: SourcePolicy, table: Read) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["x", "x", "y"])
    with ipc.new_file(policy.data_dir / "x.arrow", twice.schema) as file:
        file.write_table(twice)
    assert table(chef(policy, path="x.arrow"), None) == (("x", "x", "y"), {"y": [3]})
    with pytest.raises(SourceFailed, match="two columns named 'x': give them different names"):
        table(chef(policy, path="x.arrow"), {"x"})


def test_a_huge_arrow_file_says_so(policy: SourcePolicy, table: Read) -> None:
    path = arrow_file(policy.data_dir, 1000, "zstd", user_id=["u"] * 5000, item_id=[0] * 5000)
    for limit in (path.stat().st_size - 1, 50_000):
        small = policy.model_copy(update={"max_file_bytes": limit})
        assert failure(table, small, path="x.arrow") == (
            f"The file 'x.arrow' holds more than {limit} bytes: split it, or raise RECSERVER_MAX_FILE_BYTES."
        )
    assert len(table(chef(policy, path="x.arrow"), None)[1]["user_id"]) == 5000
