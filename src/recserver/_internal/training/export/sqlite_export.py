"""Exports to a table of an SQLite file.

A long writing transaction locks out all readers of the file, so the rows are collected in a private temporary
database, and copied to the file together at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from recserver._internal.core.errors import ExportFailed
from recserver._internal.training.export.export_job import COLUMNS, WriteRows
from recserver._internal.training.export.table_columns import PRIMARY_KEY, reject_view, require_columns
from recserver._internal.training.export.table_target import TableLocation

LOCK_TIMEOUT = 30.0
"""Seconds to wait for another process that writes to the file."""

_COLUMN_TYPES = "TEXT", "INTEGER", "TEXT", "INTEGER", "TEXT", "REAL"
_COLUMNS = ", ".join(f'"{name}" {kind} NOT NULL' for name, kind in zip(COLUMNS, _COLUMN_TYPES, strict=True))
_TABLE_DEFINITION = f"({_COLUMNS}, PRIMARY KEY ({', '.join(PRIMARY_KEY)})) WITHOUT ROWID"
_COLUMN_NAMES = ", ".join(COLUMNS)


@contextmanager
def open_sqlite_target(location: TableLocation, model_id: str) -> Iterator[WriteRows]:
    """As :func:`recserver._internal.training.export.table_export.open_table_target`."""
    assert location.file is not None  # noqa: S101 - for the type checker
    try:
        if location.file.exists():
            with closing(_connect(str(location.file))) as connection:
                connection.execute("BEGIN IMMEDIATE")  # fail now if it cannot be written
                _check_table(connection, "main", location.name)
        with closing(_connect("")) as connection:
            connection.execute(f"CREATE TABLE gathered {_TABLE_DEFINITION}")
            connection.execute("BEGIN")
            yield partial(connection.executemany, "INSERT INTO gathered VALUES (?, ?, ?, ?, ?, ?)")
            connection.execute("COMMIT")
            _replace_rows(connection, location.file, location.name, model_id)
    except sqlite3.Error as error:
        raise ExportFailed(location.error_message(error, LOCK_TIMEOUT)) from None


def roll_back_unfinished(file: Path) -> None:
    """Roll back what a killed export had written: a process that may only read the file could not, and would fail.

    A process that writes to the file at this time has done it already.
    """
    if file.with_name(f"{file.name}-journal").exists():
        with suppress(sqlite3.Error), closing(_connect(str(file), lock_timeout=1.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")


def _connect(name: str, lock_timeout: float | None = None) -> sqlite3.Connection:
    return sqlite3.connect(
        name, timeout=LOCK_TIMEOUT if lock_timeout is None else lock_timeout, isolation_level=None
    )


def _check_table(connection: sqlite3.Connection, schema: str, table: str) -> bool:
    """Whether a table exists; check its columns if it does."""
    query = f"SELECT type FROM {schema}.sqlite_master WHERE lower(name) = lower(?)"  # noqa: S608 - main or target
    if ("view",) in connection.execute(query, [table]).fetchall():
        reject_view(table)
    columns = {row[1]: row for row in connection.execute(f'PRAGMA {schema}.table_info("{table}")')}
    if columns:
        required = [
            name
            for name, (*_, not_null, default, key) in columns.items()
            if not_null and not key and default is None
        ]
        require_columns(table, columns, required)
    return bool(columns)


def _replace_rows(connection: sqlite3.Connection, file: Path, table: str, model_id: str) -> None:
    connection.execute("ATTACH ? AS target", [str(file)])
    connection.execute("BEGIN IMMEDIATE")
    if not _check_table(connection, "target", table):
        connection.execute(f'CREATE TABLE target."{table}" {_TABLE_DEFINITION}')
    connection.execute(f'DELETE FROM target."{table}" WHERE model_id = ?', [model_id])  # noqa: S608 - checked names
    connection.execute(f'INSERT INTO target."{table}" ({_COLUMN_NAMES}) SELECT {_COLUMN_NAMES} FROM gathered')  # noqa: S608
    connection.execute("COMMIT")
