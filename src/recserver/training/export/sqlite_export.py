"""Recommendations in a table of an SQLite file.

A transaction that writes much locks everybody out of such a file, so rows gather in a private database of SQLite's
own, and go into the file together at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from recserver.core.errors import ExportFailed
from recserver.training.export.export_job import COLUMNS
from recserver.training.export.rows import Exported, Rows, Write
from recserver.training.export.table_columns import KEY, refuse_view, require_columns, values_of
from recserver.training.export.table_target import Place

PATIENCE = 30.0
"""Seconds that we wait for others who write to the file."""

_KINDS = "TEXT", "INTEGER", "TEXT", "INTEGER", "TEXT", "REAL"
_COLUMNS = ", ".join(f'"{name}" {kind} NOT NULL' for name, kind in zip(COLUMNS, _KINDS, strict=True))
_DEFINITION = f"({_COLUMNS}, PRIMARY KEY ({', '.join(KEY)})) WITHOUT ROWID"
_NAMES = ", ".join(COLUMNS)


@contextmanager
def rows_of(place: Place, of: Exported) -> Iterator[Write]:
    """As :func:`recserver.training.export.table_export.table_of`."""
    assert place.file is not None  # noqa: S101 - for the type checker
    try:
        if place.file.exists():
            with closing(_opened(str(place.file))) as connection:
                connection.execute("BEGIN IMMEDIATE")  # whether it can be written is better known now
                _check(connection, "main", place.name)
        with closing(_opened("")) as connection:
            connection.execute(f"CREATE TABLE gathered {_DEFINITION}")
            connection.execute("BEGIN")

            def write(rows: Rows) -> None:
                connection.executemany("INSERT INTO gathered VALUES (?, ?, ?, ?, ?, ?)", values_of(rows, of))

            yield write
            connection.execute("COMMIT")
            _put(connection, place.file, place.name, of.model_id)
    except sqlite3.Error as error:
        raise ExportFailed(place.in_words(error, PATIENCE)) from None


def take_back(file: Path) -> None:
    """Undo what an export that was killed had written to the file: who may only read it could not, and is refused.

    Whoever writes to it just now has done so already.
    """
    if file.with_name(f"{file.name}-journal").exists():
        with suppress(sqlite3.Error), closing(_opened(str(file), patience=1.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")


def _opened(name: str, patience: float | None = None) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=PATIENCE if patience is None else patience, isolation_level=None)


def _check(connection: sqlite3.Connection, schema: str, table: str) -> bool:
    """Whether a table is there; if so it must have the columns."""
    kind = f"SELECT type FROM {schema}.sqlite_master WHERE lower(name) = lower(?)"  # noqa: S608 - main or target
    if ("view",) in connection.execute(kind, [table]).fetchall():
        refuse_view(table)
    found = {row[1]: row for row in connection.execute(f'PRAGMA {schema}.table_info("{table}")')}
    if found:
        must = [
            name
            for name, (*_, not_null, default, key) in found.items()
            if not_null and not key and default is None
        ]
        require_columns(table, found, must)
    return bool(found)


def _put(connection: sqlite3.Connection, file: Path, table: str, model_id: str) -> None:
    connection.execute("ATTACH ? AS target", [str(file)])
    connection.execute("BEGIN IMMEDIATE")
    if not _check(connection, "target", table):
        connection.execute(f'CREATE TABLE target."{table}" {_DEFINITION}')
    connection.execute(f'DELETE FROM target."{table}" WHERE model_id = ?', [model_id])  # noqa: S608 - checked names
    connection.execute(f'INSERT INTO target."{table}" ({_NAMES}) SELECT {_NAMES} FROM gathered')  # noqa: S608
    connection.execute("COMMIT")
