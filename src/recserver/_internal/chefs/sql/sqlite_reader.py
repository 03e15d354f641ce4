"""Reads SQLite files, with an authorizer that denies writing, attaching databases and loading extensions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from recserver._internal.chefs.files.allowed_paths import open_regular
from recserver._internal.chefs.sql.error_messages import RowChunk, raise_timeout
from recserver._internal.chefs.sql.query_guard import is_denied

PROGRESS_STEPS = 10_000
"""Virtual machine instructions between two checks of the deadline: well below a millisecond."""

MAX_VALUE_BYTES = 64 * 2**20
"""Maximum size of a row or value, in bytes."""

_READ_ACTIONS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
# json_each and full-text tables are declared with these actions; they do not allow writes to sqlite_master.
_VIRTUAL_TABLE_ACTIONS = {(sqlite3.SQLITE_UPDATE, "sqlite_master"), (sqlite3.SQLITE_PRAGMA, "data_version")}


def read_rows(
    path: Path, name: str, query: str, chunk_rows: int, timed_out: Callable[[], bool]
) -> Iterator[RowChunk]:
    """Chunks of the query's result; the first has no rows.

    Args:
        path: path of the database file.
        name: name of the file in messages.
        query: one SELECT.
        chunk_rows: maximum number of rows in a chunk.
        timed_out: called repeatedly; once it returns true, the query is interrupted.

    Raises:
        SourceFailed: if the file cannot be opened.
        TimeoutError: after a timeout.
        sqlite3.Error: for errors of SQLite.
    """
    open_regular(path, name).close()
    with closing(_connect(path)) as connection, raise_timeout(timed_out):
        connection.set_progress_handler(timed_out, PROGRESS_STEPS)
        cursor = connection.execute(query)
        names = tuple(column[0] for column in cursor.description or ())
        yield names, []
        while rows := cursor.fetchmany(chunk_rows):
            yield names, rows


def is_single_scan(path: Path, query: str) -> bool:
    """Whether ``query`` is allowed and scans one table once: it does not sort or join, and terminates."""
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
