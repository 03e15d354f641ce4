"""The fast and the strict CSV parser read the same rows, for blocks of any size."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recserver._internal.chefs.files import fast_csv as csv_blocks
from recserver._internal.chefs.files import file_chef as csv_chef
from recserver._internal.chefs.files.file_chef import CsvChef
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.training.ingest.id_encoding import to_list

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]
HEADER = ["user_id", "item_id", "rating"]


def read(policy: SourcePolicy, text: bytes, size: int) -> tuple[dict[str, list[str]], int]:
    """Columns and number of rejected rows, read in blocks of about ``size`` bytes."""
    (policy.data_dir / "x.csv").write_bytes(text)
    columns: dict[str, list[str]] = {name: [] for name in HEADER}
    n_rejected = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_chef, "MIN_BLOCK_BYTES", size)
        patch.setattr(csv_chef, "BYTES_PER_ROW", 1)
        small = policy.model_copy(update={"batch_rows": size})
        for batch in CsvChef({"path": "x.csv", "delimiter": ","}, small).batches(HEADER):
            n_rejected += sum(one.count for one in batch.rejected)
            for name, column in batch.columns.items():
                columns[name] += to_list(column)
    return columns, n_rejected


fields = st.one_of(
    st.sampled_from(
        ["", "u1", "NA", " 4", "a,b", 'say "hi"', "two\nlines", "\r\n", '"', "é😀", "1e5", "null", "x" * 50]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8),
)
tables = st.lists(st.tuples(fields, fields, fields), max_size=12)


@given(
    tables,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.integers(1, 80),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_output_of_a_csv_writer_is_read_back(
    policy: SourcePolicy, table: list[tuple[str, str, str]], end: str, quoting: Any, size: int
) -> None:
    table = [tuple(one.replace("\r", "") for one in row) for row in table]  # type: ignore[misc]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=quoting).writerows([HEADER, *table])
    columns, n_rejected = read(policy, text.getvalue().encode(), size)
    assert list(zip(*columns.values(), strict=True)) == table
    assert n_rejected == 0


rows = st.one_of(
    st.sampled_from(
        ["u,i,1", "u,i", "u", "u,i,1,", "u,i,1,2", "u,i,1,,2", "", "   ", '"u",i,1', 'u,"i, j",1', 'u,"i\nj",1',
         '19" screen,i,1', 'u,5"x"6,1', 'u,"i"x,1', "é,😀,1", ",,", 'u,i,"1"', 'u,"",1', 'u,i,1,"x\ny"']
    ),
    st.lists(st.sampled_from(["a", "7", "é", '"q""q"', "", '"x,y"', '"new\nline"']), max_size=5).map(",".join),
)  # fmt: skip


@given(st.lists(rows, max_size=15), st.integers(1, 60), st.booleans())
@example(['5" x,"ab\ncd",1', "v,j,2"], 20, True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ragged_rows_and_stray_quotes_are_read_the_same_in_blocks_of_any_size(
    policy: SourcePolicy, lines: list[str], size: int, ends: bool
) -> None:
    text = ("\n".join([",".join(HEADER), *lines]) + "\n" * ends).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "parse_block", lambda block, layout: None)
        strict = read(policy, text, 10**6)
    assert read(policy, text, size) == strict


def test_a_stray_quote_does_not_hide_an_open_quote_in_a_block() -> None:
    assert csv_blocks._end_of_rows(b'a,b,c\n5" x,"ab\n') == -1
    assert csv_blocks._end_of_rows(b'a,b,c\n5" x,ab\n') == 6
    assert csv_blocks._end_of_rows(b'a,"b\nc",d\ne,"f') == 10
    assert csv_blocks._end_of_rows(b'a,"b\nc') == 0
    assert csv_blocks._end_of_rows(b"abc") == 0


def test_columns_with_many_distinct_values_are_not_dictionary_encoded(policy: SourcePolicy) -> None:
    lines = "".join(f"u{number},i{number % 3},{number}\n" for number in range(5_000))
    (policy.data_dir / "x.csv").write_text(f"user_id,item_id,rating\n{lines}")
    small = policy.model_copy(update={"batch_rows": 100})
    *_, last = CsvChef({"path": "x.csv"}, small).batches(HEADER)
    kinds = {name: str(column.type) for name, column in last.columns.items() if not isinstance(column, list)}  # type: ignore[union-attr]
    assert kinds["user_id"] == "string"
    assert kinds["item_id"].startswith("dictionary")


def test_closing_the_iterator_closes_the_file_and_threads(policy: SourcePolicy) -> None:
    import threading

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    lines = "".join(f"u{number},i,1\n" for number in range(50_000))
    (policy.data_dir / "x.csv").write_text(f"user_id,item_id,rating\n{lines}")
    before = open_files(), threading.active_count()
    batches = CsvChef({"path": "x.csv"}, policy.model_copy(update={"batch_rows": 10})).batches(None)
    next(batches)
    assert next(batches).n_rows
    batches.close()  # type: ignore[attr-defined]
    assert (open_files(), threading.active_count()) == before
