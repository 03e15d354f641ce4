"""The rows that a query answers, as batches of columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from recserver.chefs.chef_entry import column_of, joined, no_rows, object_column, positions
from recserver.chefs.protocol import Batch, Column
from recserver.chefs.sql import adbc_reader as adbc
from recserver.chefs.sql import sqlite_reader as sqlite

FEW_ROWS = 5_000
"""An answer of no more rows needs no quick way."""

Chunk = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def read_sqlite(
    chunks: Iterator[Chunk],
    file: Path,
    query: str,
    wanted: Collection[str],
    *,
    batch_rows: int,
    out_of_time: Callable[[], bool],
) -> Iterator[Batch]:
    """Batches of a query on an SQLite file: quickly, if its answer is long and such that it can be.

    Args:
        chunks: the answer in the ordinary way, from :mod:`recserver.chefs.sql.sqlite_reader`.
        file: the database.
        out_of_time: asked between batches.
    """
    begun, n_rows = [], 0
    for chunk in chunks:
        begun.append(chunk)
        n_rows += len(chunk[1])
        if n_rows > FEW_ROWS:
            break
    names = begun[0][0]
    kinds = _kinds(begun, _places(names, wanted)) if n_rows > FEW_ROWS else None
    quick_query = adbc.guarded(query, kinds) if kinds else ""
    if kinds and sqlite.scans_once(file, quick_query):
        with suppress(adbc.NotQuick):
            yield from adbc.read_sqlite(
                file, quick_query, names, kinds, batch_rows=batch_rows, out_of_time=out_of_time
            )
            return
    yield from batches(chain(begun, chunks), wanted, batch_rows)


def _kinds(chunks: Iterable[Chunk], places: Mapping[str, int]) -> dict[str, type] | None:
    """The type of the values of each column; None if one has several, or one that the quick way does not know."""
    kinds = {}
    for name, place in places.items():
        found = {type(row[place]) for _, rows in chunks for row in rows} - {type(None)}
        if len(found) != 1 or not found <= adbc.SQLITE_TYPES.keys():
            return None
        kinds[name] = found.pop()
    return kinds


def _places(names: Sequence[str], wanted: Collection[str] | None) -> dict[str, int]:
    return positions(names, wanted, "The query's answer", "name one of them otherwise with AS")


def _column(values: list[Any]) -> Column:
    try:
        return column_of(values)
    except TypeError:  # Arrow knows no decimals that are NaN or infinite
        return object_column(values)


def batches(chunks: Iterator[Chunk], wanted: Collection[str] | None, batch_rows: int) -> Iterator[Batch]:
    """Rows from whatever driver as batches of about ``batch_rows``, only the wanted columns of them."""
    names, _ = next(chunks)
    places = _places(names, wanted)
    yield Batch(names, {name: no_rows() for name in places})
    if not places:
        return
    parts: dict[str, list[Column]] = {name: [] for name in places}
    waiting = 0

    def batch() -> Batch:
        whole = Batch(names, {name: joined(columns) for name, columns in parts.items()})
        for columns in parts.values():
            columns.clear()
        return whole

    for _, rows in chunks:
        for name, place in places.items():
            parts[name].append(_column(list(map(itemgetter(place), rows))))
        waiting += len(rows)
        if waiting >= batch_rows:
            yield batch()
            waiting = 0
    if waiting:
        yield batch()
