"""The rows of a query's result as batches of columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from recserver.chefs.chef_entry import column_indices, concat_columns, empty_column, object_column, to_column
from recserver.chefs.protocol import Batch, Column
from recserver.chefs.sql import adbc_reader as adbc
from recserver.chefs.sql import sqlite_reader as sqlite
from recserver.chefs.sql.error_messages import RowChunk

FAST_PATH_MIN_ROWS = 5_000
"""Results of up to this many rows are read without ADBC."""


def read_sqlite(
    chunks: Iterator[RowChunk],
    file: Path,
    query: str,
    wanted: Collection[str],
    *,
    batch_rows: int,
    timed_out: Callable[[], bool],
) -> Iterator[Batch]:
    """Batches of a query on an SQLite file: by ADBC if the result is long and suitable.

    Args:
        chunks: the result from :mod:`recserver.chefs.sql.sqlite_reader`.
        file: the database.
        timed_out: called between batches.
    """
    begun, n_rows = [], 0
    for chunk in chunks:
        begun.append(chunk)
        n_rows += len(chunk[1])
        if n_rows > FAST_PATH_MIN_ROWS:
            break
    names = begun[0][0]
    kinds = _value_types(begun, _column_indices(names, wanted)) if n_rows > FAST_PATH_MIN_ROWS else None
    quick_query = adbc.with_text_check(query, kinds) if kinds else ""
    if kinds and sqlite.is_single_scan(file, quick_query):
        with suppress(adbc.FastPathUnavailable):
            yield from adbc.read_sqlite(
                file, quick_query, names, kinds, batch_rows=batch_rows, timed_out=timed_out
            )
            return
    yield from to_batches(chain(begun, chunks), wanted, batch_rows)


def _value_types(chunks: Iterable[RowChunk], column_indices: Mapping[str, int]) -> dict[str, type] | None:
    """Column → type of its values; None if a column has several types, or one that ADBC does not support."""
    kinds = {}
    for name, place in column_indices.items():
        found = {type(row[place]) for _, rows in chunks for row in rows} - {type(None)}
        if len(found) != 1 or not found <= adbc.ARROW_TYPES.keys():
            return None
        kinds[name] = found.pop()
    return kinds


def _column_indices(names: Sequence[str], wanted: Collection[str] | None) -> dict[str, int]:
    return column_indices(names, wanted, "The query's answer", "rename one of them with AS")


def _to_column(values: list[Any]) -> Column:
    try:
        return to_column(values)
    except TypeError:  # Arrow has no NaN or infinite decimals
        return object_column(values)


def to_batches(chunks: Iterator[RowChunk], wanted: Collection[str] | None, batch_rows: int) -> Iterator[Batch]:
    """The wanted columns of a driver's rows, in batches of about ``batch_rows``."""
    names, _ = next(chunks)
    places = _column_indices(names, wanted)
    yield Batch(names, {name: empty_column() for name in places})
    if not places:
        return
    parts: dict[str, list[Column]] = {name: [] for name in places}
    waiting = 0

    def batch() -> Batch:
        whole = Batch(names, {name: concat_columns(columns) for name, columns in parts.items()})
        for columns in parts.values():
            columns.clear()
        return whole

    for _, rows in chunks:
        for name, place in places.items():
            parts[name].append(_to_column(list(map(itemgetter(place), rows))))
        waiting += len(rows)
        if waiting >= batch_rows:
            yield batch()
            waiting = 0
    if waiting:
        yield batch()
