"""Sources that could crash a reader, exhaust its memory, block it, or lose rows silently."""

from __future__ import annotations

import bz2
import json
import lzma
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from recserver._internal.chefs.files import fast_csv as csv_blocks
from recserver._internal.chefs.files import file_chef as csv_chef
from recserver._internal.chefs.rest.json_pages import parse_page
from recserver._internal.chefs.rest.json_stream import JsonRowParser
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed
from recserver._internal.training.ingest.source_reader import collect
from recserver._internal.training.jobs import DataReport, TrainingJob
from tests.helpers.http_site import Site

pytestmark = pytest.mark.slow

HEADER = b"user_id,item_id\n"
LINE = b'{"user_id": "u", "item_id": "i"}\n'


def job(policy: SourcePolicy, **entry: Any) -> TrainingJob:
    return TrainingJob(
        model_id="m", model_version=1, algorithm="nmf", hyperparameters={}, data_chef_id="c", data_chef=entry,
        policy=policy, out=policy.data_dir / "out",
    )  # fmt: skip


def report(policy: SourcePolicy, content: bytes | None = None, path: str = "x.csv", **entry: Any) -> DataReport:
    """The data report of a training from a file."""
    if content is not None:
        (policy.data_dir / path).write_bytes(content)
    return collect(job(policy, type="csv", path=path, **entry), lambda _: None).data_report


def failure(*args: Any, **entry: Any) -> str:
    with pytest.raises(SourceFailed) as caught:
        report(*args, **entry)
    return str(caught.value)


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress], ids=["bz2", "xz"])
def test_a_damaged_second_stream_is_reported(policy: SourcePolicy, pack: Callable[[bytes], bytes]) -> None:
    first, second = pack(HEADER + b"u,i\n" * 9), pack(b"v,j\n" * 9)
    assert report(policy, first + second).rows_kept == 18
    for rest in (b"XX" + second[2:], second[:-9], b"something else"):
        assert "is a damaged" in failure(policy, first + rest)
    assert report(policy, first + bytes(8)).rows_kept == 9  # xz may be padded


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04\x14\x00", "is a spreadsheet or a ZIP archive: save its table as CSV."),
        (b"PAR1abc", "is a Parquet file: give the data chef the format parquet."),
        (b"ARROW1\0\0", "is an Arrow file: give the data chef the format arrow."),
        (b"SQLite format 3\0", "is an SQLite database: create a data chef of type sql for it."),
        (b"\n <HTML><body>", "is HTML or XML: save its table as CSV."),
        (
            b'[\n {"user_id": 1}]',
            "is a JSON array: save it as JSON lines, and give the data chef the format jsonl.",
        ),
        (LINE, "is JSON: save it one object per line, and give the data chef the format jsonl."),
    ],
)
def test_other_file_formats_are_reported(policy: SourcePolicy, content: bytes, sentence: str) -> None:
    assert failure(policy, content) == f"The file 'x.csv' {sentence}"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_byte_order_mark_is_detected(policy: SourcePolicy, encoding: str) -> None:
    content = (HEADER + b"u,i\n").decode().encode(encoding)
    assert failure(policy, content) == (
        "The file 'x.csv' contains a NUL character at line 1: save it as plain UTF-8 text, or give its encoding, "
        f"probably {encoding}."
    )
    assert report(policy, content, encoding=encoding).rows_kept == 1


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(csv_chef, "MIN_BLOCK_BYTES", 4096)
    monkeypatch.setattr(csv_chef, "BYTES_PER_ROW", 1)
    monkeypatch.setattr(csv_blocks, "MAX_ROW_BYTES", 2**16)
    return iter(())


@pytest.mark.parametrize("before", [0, 1, 400, 1000])
@pytest.mark.parametrize(("start", "end"), [('5" x', 'i"'), ('5" x', '"'), ("5 x", 'i"'), ('5", "x', 'i"')])
def test_stray_quotes_do_not_hide_open_quotes(
    policy: SourcePolicy, small_blocks: None, before: int, start: str, end: str
) -> None:
    long = start + ',"' + "iiiii\n" * 999 + end + "\n"
    content = HEADER + b"u,i\n" * before + long.encode() + b"v,j\n" * 5000
    small = policy.model_copy(update={"batch_rows": 100})
    counted = report(small, content)
    assert counted.rows_kept == before + 5000
    assert sum(counted.rejected.values()) == 1
    assert "quote" in failure(small, content.replace(end.encode() + b"\nv", b"\nv"))


def test_a_stray_quote_does_not_stop_a_large_file(policy: SourcePolicy, small_blocks: None) -> None:
    content = HEADER + b"u,i\n" * 9 + b'19" screen,i\n' + b"v,j\n" * 25_000
    assert report(policy.model_copy(update={"batch_rows": 100}), content).rows_kept == 25_010


def test_ragged_rows_are_counted_regardless_of_their_width(policy: SourcePolicy) -> None:
    counted = report(policy, HEADER + b"u,i\n" + b"u,i,x\n" * 999 + b"u,i" + b"," * 2_000_000 + b"\n")
    assert (counted.rows_read, counted.rows_kept) == (1001, 1)
    assert counted.rejected == {"the row has more fields than the header": 1000}
    assert counted.examples["the row has more fields than the header"] == "u,i,x"


def test_suggestions_for_many_columns_are_fast(policy: SourcePolicy) -> None:
    header = b",".join(b"c%d" % number for number in range(120_000))
    assert "found 'c0', 'c1'" in failure(policy, header + b"\n")


def test_unusual_json_values_are_left_to_row_validation(policy: SourcePolicy) -> None:
    odd = (
        b'{"user_id": 1, "item_id": 1, "rating": 1e999}\n'
        b'{"user_id": "\\ud800", "item_id": 1}\n'
        b'{"user_id": %s, "item_id": 1}\n' % (b"9" * 10**6)
    )
    counted = report(policy, LINE + odd, path="x.jsonl")
    assert counted.rows_kept == 2
    assert counted.rejected == {"user_id is not valid Unicode": 1, "user_id is longer than 256 characters": 1}
    for broken in (b'{"user_id": NaN}', b'{"user_id": Infinity}', b'{"user_id": "\xff"}', b'{"a":' * 99_999):
        assert "is not valid JSON at line 2" in failure(policy, LINE + broken, path="x.jsonl")


def test_long_json_lines_are_read_in_small_batches(policy: SourcePolicy) -> None:
    line = b'{"user_id": "u", "item_id": "i", "unwanted": ["%s"]}\n' % (b"x" * 1_000_000)
    (policy.data_dir / "x.jsonl").write_bytes(line * 20)
    chef = csv_chef.CsvChef({"path": "x.jsonl"}, policy)
    batches = list(chef.batches({"user_id", "item_id"}))
    assert [batch.n_rows for batch in batches] == [9, 9, 2]
    assert all(
        set(batch.columns) == {"user_id", "item_id"} and "unwanted" in batch.column_names for batch in batches
    )
    assert "line longer than 8 MiB after line 1" in failure(policy, LINE + b" " * 10_000_000, path="x.jsonl")


NOT_UTF8 = pa.array([b"\xff", b"\xfe", b"\xfd"])

FAR = {
    "times after 9999": pa.array([2**55, 1, 2], pa.timestamp("ms")),
    "days after 9999": pa.array([2**31 - 1, 1, 2], pa.date32()),
    "an unknown time zone": pa.array([1, 2, 3], pa.timestamp("us", "Mars/Phobos")),
    "text that is not UTF-8": NOT_UTF8.view(pa.string()),
    "views of text that is not UTF-8": NOT_UTF8.cast(pa.binary_view()).view(pa.string_view()),
}


@pytest.mark.parametrize("values", FAR.values(), ids=FAR)
@pytest.mark.parametrize("name", ["user_id", "rating", "event", "at"])
def test_parquet_values_without_python_type_are_validated(
    policy: SourcePolicy, values: pa.Array, name: str
) -> None:
    columns: dict[str, Any] = {"user_id": ["u", None, "w"], "item_id": ["i", "j", "k"], "event": ["view"] * 3}
    parquet.write_table(pa.table(columns | {name: values}), policy.data_dir / "x.parquet")
    check_all_rows_are_counted(policy, "x.parquet", name)


def check_all_rows_are_counted(policy: SourcePolicy, path: str, name: str) -> None:
    """All three rows of a file are kept or rejected."""
    entry: dict[str, Any] = {"event": {"event_weights": {"view": 1}}, "at": {"timestamp_column": "at"}}.get(
        name, {}
    )
    try:
        counted = report(policy, path=path, **entry)
    except SourceFailed as error:
        assert "None of the 3 rows is usable" in str(error)
    else:
        assert counted.rows_kept + sum(counted.rejected.values()) == 3


def write_arrow(policy: SourcePolicy, columns: dict[str, Any], name: str = "x.arrow") -> bytes:
    """The content of an Arrow file of these columns, which is written into the data folder."""
    written = pa.table(columns)
    with ipc.new_file(policy.data_dir / name, written.schema) as file:
        file.write_table(written)
    return (policy.data_dir / name).read_bytes()


FIRST_TWO = pa.array([0, 1, None], pa.uint64())
SEVENS = pa.py_buffer((7).to_bytes(16, "little") * 3)
NOT_IN_PARQUET = {
    "views of text": pa.array(["1", None, "2"], pa.string_view()),
    "views of bytes": pa.array([b"1", None, b"2"], pa.binary_view()),
    "views of lists": pa.array([["1"], None, ["2"]], pa.list_view(pa.string())),
    "a dictionary of views": pa.DictionaryArray.from_arrays(FIRST_TWO, pa.array(["1", "2"], pa.string_view())),
    "a large dictionary of views": pa.DictionaryArray.from_arrays(
        FIRST_TWO, pa.array([*"1234"], pa.string_view())
    ),
    "a dictionary of lists": pa.DictionaryArray.from_arrays(FIRST_TWO, pa.array([["1"], ["2"]])),
    "a dictionary of text that is not UTF-8": pa.DictionaryArray.from_arrays(
        FIRST_TWO, NOT_UTF8.view(pa.string())
    ),
    "runs": pc.run_end_encode(pa.array(["1", "1", "2"])),
    "months": pa.array([(1, 2, 3), None, (1, 2, 4)], pa.month_day_nano_interval()),
    "a union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array([*"xyz"])]
    ),
    "decimals of absurd scale": pa.Array.from_buffers(pa.decimal128(5, 2**31 - 1), 3, [None, SEVENS]),
}


@pytest.mark.parametrize("values", (FAR | NOT_IN_PARQUET).values(), ids=FAR | NOT_IN_PARQUET)
@pytest.mark.parametrize("name", ["user_id", "rating", "event", "at"])
def test_types_that_only_arrow_has_are_validated(policy: SourcePolicy, values: pa.Array, name: str) -> None:
    columns: dict[str, Any] = {"user_id": ["u", None, "w"], "item_id": ["i", "j", "k"], "event": ["view"] * 3}
    write_arrow(policy, columns | {name: values})
    check_all_rows_are_counted(policy, "x.arrow", name)


def test_views_of_text_are_read_as_text(policy: SourcePolicy) -> None:
    """Polars writes text as string views."""
    texts = {"user_id": ["u", "v"], "item_id": ["i", "j"], "rating": ["2", "no"], "at": ["2020-01-02", "1"]}
    columns = {name: pa.array(values, pa.string_view()) for name, values in texts.items()}
    write_arrow(policy, columns)
    parquet.write_table(pa.table(columns), policy.data_dir / "x.parquet")
    for path in ("x.arrow", "x.parquet"):
        counted = report(policy, path=path, timestamp_column="at")
        assert (counted.rows_kept, counted.rejected) == (2, {})
        assert counted.replaced == {"rating is not a number": 1}


def test_truncated_arrow_files_are_reported(policy: SourcePolicy) -> None:
    whole = write_arrow(policy, {"user_id": ["u"] * 99, "item_id": ["i"] * 99})
    for size in range(0, len(whole), 11):
        assert "cannot be read as Arrow" in failure(policy, whole[:size], path="x.arrow")


def test_damaged_offsets_and_indices_of_arrow_files_are_reported(policy: SourcePolicy) -> None:
    """Arrow does not check them by default, and would read other memory of the process."""
    codes = pa.array([3, 3, 2, 2, 1, 1, 0, 0], pa.int32())
    columns = {"user_id": pa.DictionaryArray.from_arrays(codes, pa.array([*"abcd"])), "item_id": ["item"] * 8}
    whole = write_arrow(policy, columns)
    assert report(policy, path="x.arrow").rows_kept == 8
    for place in (codes.to_numpy().tobytes(), np.arange(0, 36, 4, np.int32).tobytes()):
        start = whole.index(place) + 8
        for wrong in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"):
            damaged = whole[:start] + wrong + whole[start + 4 :]
            assert "cannot be read as Arrow" in failure(policy, damaged, path="x.arrow")


@pytest.mark.process
def test_damaged_arrow_files_do_not_crash_the_process(policy: SourcePolicy) -> None:
    """A child process survives reading many files with one wrong byte."""
    whole = write_arrow(
        policy, {"user_id": pa.array(["ann", "bob", "bob"]).dictionary_encode(), "item_id": [*"ijk"]}
    )
    entries = []
    for place in range(8, len(whole), 7):
        for wrong in (0x7F, 0xFF):
            name = f"{place}_{wrong}.arrow"
            (policy.data_dir / name).write_bytes(whole[:place] + bytes([wrong]) + whole[place + 1 :])
            entries.append({"type": "csv", "path": name})
    asked = "".join(json.dumps(entry) + "\n" for entry in entries)
    command = [sys.executable, "-c", CHILD, str(policy.data_dir)]
    answers = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(answers) == len(entries)


def test_a_damaged_parquet_dictionary_is_reported(policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = pa.DictionaryArray.from_arrays(pa.array([0, 7, 1], pa.int32()), ["a", "b"], safe=False)
    parquet.write_table(pa.table({"user_id": ["a", "b", "a"]}), policy.data_dir / "x.parquet")
    batch = pa.record_batch({"user_id": bad})
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", lambda *_, **__: iter([batch]))
    assert "cannot be read as Parquet" in failure(policy, path="x.parquet")


def test_truncated_parquet_files_are_reported(policy: SourcePolicy) -> None:
    parquet.write_table(pa.table({"user_id": ["u"] * 99, "item_id": ["i"] * 99}), policy.data_dir / "x.parquet")
    whole = (policy.data_dir / "x.parquet").read_bytes()
    for size in range(0, len(whole), 11):
        assert "cannot be read as Parquet" in failure(policy, whole[:size], path="x.parquet")


def from_site(policy: SourcePolicy, site: Site, **entry: Any) -> DataReport:
    return collect(job(policy, type="api", url=site.url, **entry), lambda _: None).data_report


def pages(site: Site, *answers: object) -> None:
    site.pages(lambda page, size: answers[min(page, len(answers)) - 1])


PAGED = {"paginated": True, "page_size": 1, "concurrent_pages": 1}


def test_an_error_object_is_not_the_last_page(policy: SourcePolicy, site: Site) -> None:
    row = {"user_id": "u", "item_id": "i"}
    pages(site, [row], [row], {"error": "rate limit"})
    with pytest.raises(SourceFailed, match="an object without rows as page 3, probably an error"):
        from_site(policy, site, **PAGED)
    for end in ({"items": None}, {"items": []}, []):
        pages(site, [row], [row], end)
        assert from_site(policy, site, **PAGED).rows_kept == 2
    pages(site, [row, row], row)  # some libraries write a list of one as its element
    assert from_site(policy, site, **PAGED | {"page_size": 2}).rows_kept == 3


def test_a_redirect_to_an_invalid_url_is_reported(policy: SourcePolicy, site: Site) -> None:
    site.gives(b"", 302, Location="http://[::1")
    with pytest.raises(
        SourceFailed, match=r"redirects to an address that is refused: it is not valid\. Correct it"
    ):
        from_site(policy, site)


def test_headers_do_not_follow_a_redirect_to_another_port(policy: SourcePolicy, site: Site) -> None:
    other = Site()
    try:
        other.gives(LINE)
        site.gives(b"", 307, Location=other.url)
        secrets = {
            "auth": {"type": "bearer", "token": "c4n4ry"},
            "headers": {"X-Key": "c4n4ry", "Cookie": "c4n4ry"},
        }
        assert from_site(policy, site, **secrets).rows_kept == 1
        assert "c4n4ry" in str(site.requests[0].headers)
        assert "c4n4ry" not in str(other.requests[0].headers)
    finally:
        other.close()


@pytest.mark.parametrize("selector", [None, "shop.rows"])
def test_deeply_nested_values_are_rejected(policy: SourcePolicy, site: Site, selector: str | None) -> None:
    deep = '{"user_id": %s, "item_id": 1}' % ("[" * 100_000 + "]" * 100_000)
    rows = f'[{{"user_id": "u", "item_id": "i"}}, {deep}]'
    site.gives((rows if selector is None else f'{{"shop": {{"rows": {rows}}}}}').encode())
    counted = from_site(policy, site, data_selector=selector)
    assert (counted.rows_kept, counted.rejected) == (1, {"user_id is neither text nor a number": 1})


def test_non_objects_are_counted_with_an_example(policy: SourcePolicy, site: Site) -> None:
    deep = "[" * 900 + "]" * 900
    site.gives(f'[{{"user_id": "u", "item_id": "i"}}, {deep}, 7, "x"]'.encode())
    counted = from_site(policy, site)
    assert counted.rejected == {"the row is not a JSON object": 3}
    assert counted.examples == {"the row is not a JSON object": "[[[[[[[...]]]]]]]"}


keys = st.sampled_from(["shop", "rows", "x"])
values = st.recursive(
    st.one_of(st.integers(0, 9), st.none(), st.text("ab", max_size=2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(keys, values, max_size=3), st.integers(1, 40))
def test_both_json_parsers_select_the_same_rows(document: dict[str, Any], step: int) -> None:
    body = json.dumps(document).encode()

    def flat(value: Any) -> Any:
        return [] if isinstance(value, list | dict) else value  # other tests compare what lists contain

    def whole() -> tuple[list[Any], int]:
        page = parse_page(body, None, "shop.rows", "The source")
        names = list(page.columns)
        columns = [[flat(one) for one in page.columns[name]] for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)], page.size

    def bit_by_bit() -> tuple[list[Any], int]:
        reader = JsonRowParser(None, "The source", "shop.rows")
        rows = [row for start in range(0, len(body), step) for row in reader.feed(body[start : start + step])]
        rows += reader.close()
        names = list(reader.column_names)
        return [
            {name: flat(row.get(name)) for name in names} for row in rows if names
        ], reader.n_rows + reader.n_non_objects

    try:
        expected = whole()
    except SourceFailed:
        with pytest.raises(SourceFailed, match="has no rows at"):
            bit_by_bit()
    else:
        assert bit_by_bit() == expected


CHILD = """
import json
import sys
from pathlib import Path
from recserver._internal.core.errors import SourceFailed
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.training.jobs import TrainingJob
from recserver._internal.training.ingest.source_reader import collect
for line in sys.stdin:
    job = TrainingJob(model_id="m", model_version=1, algorithm="nmf", hyperparameters={}, data_chef_id="c",
                      data_chef=json.loads(line), policy=SourcePolicy(data_dir=Path(sys.argv[1])), out=Path("out"))
    try:
        collect(job, lambda _: None)
        said = "It was read."
    except SourceFailed as error:
        said = str(error)
    status = Path("/proc/self/status").read_text()  # getrusage counts what the parent had as well
    print(json.dumps([said, int(status.partition("VmHWM:")[2].split()[0]) // 1024]))
"""
MOST_MEGABYTES = 268
"""More than the process takes with its libraries once it has read one row."""
ENDLESS = {
    "line": ("csv", HEADER + b"u,", b"i", "row longer than 16 MiB"),
    "quote": ("csv", HEADER + b'u,"', b"iiiiiii\n", "check for an open quote"),
    "hidden_quote": ("csv", HEADER + b'5" x,"', b"iiiiiii\n", "check for an open quote"),
    "json_line": ("jsonl", b'{"user_id": "', b"u", "line longer than 8 MiB"),
    "json_lists": ("jsonl", b'{"user_id": [', b"[],", "line longer than 8 MiB"),
}
"""Name → format of the file, its start, its repeated rest, and the message."""


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(b"[")] + [packer.compress(b" " * 1_000_000) for _ in range(300)]
    return b"".join(parts) + packer.flush()


@pytest.mark.process
def test_memory_is_limited_for_endless_rows(policy: SourcePolicy, site: Site, subtests: pytest.Subtests) -> None:
    """A separate process reads rows of 100 MB, in several formats, and a compressed bomb over HTTP.

    Its peak memory is reported after each source.
    """
    (policy.data_dir / "row.csv").write_bytes(HEADER + b"u,i\n")
    entries = {"row": {"type": "csv", "path": "row.csv"}}
    for name, (kind, start, more, _) in ENDLESS.items():
        with (policy.data_dir / f"{name}.{kind}").open("wb") as file:
            file.write(start)
            for _ in range(100):
                file.write(more * (1_000_000 // len(more)))
        entries[name] = {"type": "csv", "path": f"{name}.{kind}"}
    site.gives(gzip_bomb(), **{"Content-Encoding": "gzip"})
    entries["bomb"] = {"type": "api", "url": site.url}
    sentences = {name: sentence for name, (*_, sentence) in ENDLESS.items()}
    sentences["bomb"] = "sent more than 268435456 bytes"
    requests = "".join(json.dumps(entry) + "\n" for entry in entries.values())
    command = [sys.executable, "-c", CHILD, str(policy.data_dir)]
    answers = subprocess.run(
        command, input=requests, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    (_, first), *others = map(json.loads, answers)
    for name, (said, peak) in zip(sentences, others, strict=True):
        with subtests.test(name):
            assert sentences[name] in said
            assert peak - first < MOST_MEGABYTES
