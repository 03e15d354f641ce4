"""Rows of an SQLite file, opened so that nothing can be written, attached or loaded."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recserver.chefs.files.allowed_paths import open_regular
from recserver.chefs.sql.query_guard import is_denied

STEPS_BETWEEN_LOOKS = 10_000
"""Virtual machine instructions after which the time is looked at: well below a millisecond's worth."""

LONGEST_VALUE = 64 * 2**20
"""Bytes of one row or value."""

_READING = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
# json_each and full-text tables declare themselves like this; SQLite lets nobody write to sqlite_master so.
_OF_VIRTUAL_TABLES = {(sqlite3.SQLITE_UPDATE, "sqlite_master"), (sqlite3.SQLITE_PRAGMA, "data_version")}

Chunk = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def read(path: Path, name: str, query: str, size: int, out_of_time: Callable[[], bool]) -> Iterator[Chunk]:
    """(column names, up to ``size`` rows) until there are no more; at least once.

    Args:
        path: of the database; ``name`` is how sentences call it.
        query: one SELECT.
        size: rows at a time.
        out_of_time: asked all the time; once it says yes, the query is cut off.

    Raises:
        SourceFailed: if the file cannot be opened.
        TimeoutError: if the time is over.
        sqlite3.Error: for what SQLite itself complains of.
    """
    open_regular(path, name).close()
    late = False

    def stop() -> bool:
        nonlocal late
        late = out_of_time()
        return late

    with closing(_connect(path)) as connection:
        connection.set_progress_handler(stop, STEPS_BETWEEN_LOOKS)
        try:
            cursor = connection.execute(query)
            names = tuple(column[0] for column in cursor.description or ())
            yield names, []
            while rows := cursor.fetchmany(size):
                yield names, rows
        except sqlite3.OperationalError:
            if late:
                raise TimeoutError from None
            raise


def scans_once(path: Path, query: str) -> bool:
    """Whether ``query`` is allowed, and answered by going through one table from its beginning to its end.

    Such a query yields row after row: it neither sorts nor joins, and ends.
    """
    with closing(_connect(path)) as connection:
        try:
            steps = [step[1] for step in connection.execute(f"EXPLAIN {query}")]
        except sqlite3.Error:
            return False
    loops = [step for step in steps if step in _LOOPS]
    return loops in (["Next"], ["Prev"]) and _COLLECTING.isdisjoint(steps)


_LOOPS = frozenset({"Next", "Prev", "VNext", "SorterNext", "Yield", "RowSetRead", "Program"})
_COLLECTING = frozenset({"OpenEphemeral", "OpenAutoindex", "SorterOpen", "AggStep", "InitCoroutine", "VOpen"})


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, subject: str | None, function: str | None, *_: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        allowed = not is_denied(function or "")
    else:
        allowed = action in _READING or (action, subject) in _OF_VIRTUAL_TABLES
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
