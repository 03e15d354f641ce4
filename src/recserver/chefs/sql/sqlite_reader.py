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

PROGRESS_STEPS = 10_000
"""Virtual machine instructions after which the time is looked at: well below a millisecond's worth."""

MAX_VALUE_BYTES = 64 * 2**20
"""Bytes of one row or value."""

_READ_ACTIONS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
# json_each and full-text tables declare themselves like this; SQLite lets nobody write to sqlite_master so.
_VIRTUAL_TABLE_ACTIONS = {(sqlite3.SQLITE_UPDATE, "sqlite_master"), (sqlite3.SQLITE_PRAGMA, "data_version")}

RowChunk = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def read_rows(
    path: Path, name: str, query: str, chunk_rows: int, timed_out: Callable[[], bool]
) -> Iterator[RowChunk]:
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
        late = timed_out()
        return late

    with closing(_connect(path)) as connection:
        connection.set_progress_handler(stop, PROGRESS_STEPS)
        try:
            cursor = connection.execute(query)
            names = tuple(column[0] for column in cursor.description or ())
            yield names, []
            while rows := cursor.fetchmany(chunk_rows):
                yield names, rows
        except sqlite3.OperationalError:
            if late:
                raise TimeoutError from None
            raise


def is_single_scan(path: Path, query: str) -> bool:
    """Whether ``query`` is allowed, and answered by going through one table from its beginning to its end.

    Such a query yields row after row: it neither sorts nor joins, and ends.
    """
    with closing(_connect(path)) as connection:
        try:
            steps = [step[1] for step in connection.execute(f"EXPLAIN {query}")]
        except sqlite3.Error:
            return False
    loops = [step for step in steps if step in _LOOP_OPCODES]
    return loops in (["Next"], ["Prev"]) and _MATERIALISING_OPCODES.isdisjoint(steps)


_LOOP_OPCODES = frozenset({"Next", "Prev", "VNext", "SorterNext", "Yield", "RowSetRead", "Program"})
_MATERIALISING_OPCODES = frozenset(
    {"OpenEphemeral", "OpenAutoindex", "SorterOpen", "AggStep", "InitCoroutine", "VOpen"}
)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, subject: str | None, function: str | None, *_: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        allowed = not is_denied(function or "")
    else:
        allowed = action in _READ_ACTIONS or (action, subject) in _VIRTUAL_TABLE_ACTIONS
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
