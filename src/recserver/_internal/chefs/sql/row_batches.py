"""Converts the rows of a query's result to batches of columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path

from recserver._internal.chefs.chef_entry import column_indices, concat_columns, object_column, to_column
from recserver._internal.chefs.protocol import Batch, Column
from recserver._internal.chefs.sql import adbc_reader as adbc
from recserver._internal.chefs.sql import sqlite_reader as sqlite
from recserver._internal.chefs.sql.error_messages import RowChunk

FAST_PATH_MIN_ROWS = 5_000
"""Results with at most this many rows are read without ADBC."""


def read_sqlite(
    chunks: Iterator[RowChunk],
    file: Path,
    query: str,
    requested: Collection[str],
    *,
    batch_rows: int,
    timed_out: Callable[[], bool],
) -> Iterator[Batch]:
    """The requested columns of the result of a query on an SQLite file; by ADBC if it is long and suitable.

    Args:
        chunks: the result from :func:`recserver._internal.chefs.sql.sqlite_reader.read_rows`.
        file: path of the database.
        timed_out: called between batches.
    """
    first_chunks, n_rows = [], 0
    for chunk in chunks:
        first_chunks.append(chunk)
        n_rows += len(chunk[1])
        if n_rows > FAST_PATH_MIN_ROWS:
            break
    names = first_chunks[0][0]
    if n_rows > FAST_PATH_MIN_ROWS and (types := _value_types(first_chunks, _column_indices(names, requested))):
        checked_query = adbc.with_text_check(query, types)
        if sqlite.is_single_scan(file, checked_query):
            with suppress(adbc.FastPathUnavailable):
                yield from adbc.read_sqlite(
                    file, checked_query, names, types, batch_rows=batch_rows, timed_out=timed_out
                )
                return
    yield from to_batches(chain(first_chunks, chunks), requested, batch_rows)


def _value_types(chunks: Iterable[RowChunk], column_indices: Mapping[str, int]) -> dict[str, type] | None:
    """Column → type of its values; None if a column has several types, or one that ADBC does not support."""
    types = {}
    for name, index in column_indices.items():
        found = {type(row[index]) for _, rows in chunks for row in rows} - {type(None)}
        if len(found) != 1 or not found <= adbc.ARROW_TYPES.keys():
            return None
        types[name] = found.pop()
    return types


def _column_indices(names: Sequence[str], requested: Collection[str] | None) -> dict[str, int]:
    return column_indices(names, requested, "The query's result", "rename one of them with AS")


def to_batches(chunks: Iterator[RowChunk], requested: Collection[str] | None, batch_rows: int) -> Iterator[Batch]:
    """The requested columns of a driver's rows, in batches of about ``batch_rows``; the first one is empty."""
    names, _ = next(chunks)
    indices = _column_indices(names, requested)
    yield Batch(names, {name: object_column([]) for name in indices})
    if not indices:
        return
    parts: dict[str, list[Column]] = defaultdict(list)
    n_rows = 0
    for _, rows in chunks:
        for name, index in indices.items():
            parts[name].append(to_column(list(map(itemgetter(index), rows))))
        n_rows += len(rows)
        if n_rows >= batch_rows:
            yield Batch(names, {name: concat_columns(parts.pop(name)) for name in indices})
            n_rows = 0
    if n_rows:
        yield Batch(names, {name: concat_columns(parts.pop(name)) for name in indices})
