"""The SQL chef, which reads the result of a SELECT from SQLite, or from a server through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from recserver._internal.chefs.chef_entry import (
    ChefEntry,
    expand_entry,
    has_reference,
    invalid_field,
    read_entry,
    variable_warnings,
    with_placeholders,
)
from recserver._internal.chefs.files.allowed_paths import allowed_path, missing_file_message
from recserver._internal.chefs.protocol import Batch, RestartRead
from recserver._internal.chefs.secrets import expand_environment, secret_values
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.sql import adbc_reader as adbc
from recserver._internal.chefs.sql import sqlite_reader as sqlite
from recserver._internal.chefs.sql.database_config import (
    Database,
    DbConfig,
    database_from_config,
    database_from_url,
    missing_driver_message,
)
from recserver._internal.chefs.sql.error_messages import source_failure
from recserver._internal.chefs.sql.query_guard import check_query
from recserver._internal.chefs.sql.row_batches import read_sqlite, to_batches
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.errors import SourceFailed
from recserver._internal.core.validation.values import Text

FETCH_ROWS = 2_000
"""Rows fetched at a time. They are converted to columns while they are in the processor's cache."""


class SqlEntry(ChefEntry):
    """The keys of an entry of an SQL chef. By default, the configured default database is read."""

    query: Text
    db_config: DbConfig | None = None
    connection: Text | None = Field(None, repr=False)


class SqlChef:
    """Reads the result of a query. See :class:`recserver._internal.chefs.protocol.Chef`.

    Values have the types of the driver: str, int, float, Decimal, date, datetime, bytes, None. A requested column
    that occurs twice in the result is an error.
    """

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self._entry = dict(entry)
        self._policy = policy
        self._fast_path = True
        spec = read_entry(SqlEntry, entry)
        dialect = self._check_database(spec)
        if not has_reference(spec.query):
            try:
                check_query(spec.query, dialect)
            except ValueError as error:
                raise invalid_field("query", error) from None

    def warnings(self) -> list[str]:
        if unset := variable_warnings(self._entry):
            return unset
        try:
            _, database = self._resolve_entry()
            if database.file is not None:
                missing = missing_file_message(database.file, database.path)
            else:
                missing = missing_driver_message(database.dialect)
        except SourceFailed as error:
            missing = str(error)
        return [missing] if missing else []

    def batches(self, requested: Collection[str] | None) -> Iterator[Batch]:
        spec, database = self._resolve_entry()
        try:
            yield from self._read(spec.query, database, requested)
        except SourceFailed:
            raise
        except RestartRead:
            self._fast_path = False
            raise
        except Exception as error:
            default = {"connection": self._policy.default_database}
            secrets = *secret_values(expand_environment(self._entry)), *secret_values(default)
            raise source_failure(error, secrets, self._policy.source_timeout) from None

    def _check_database(self, spec: SqlEntry) -> str | None:
        """Validate the database as far as possible; return its dialect, None if a variable holds it."""
        if spec.connection is not None and spec.db_config is not None:
            raise invalid_field("connection", "give either connection or db_config, not both")
        if has_reference((spec.connection or "").partition("://")[0]):
            return None
        try:
            return self._database(_with_placeholders(spec)).dialect
        except ValueError as error:
            if spec.connection is None and spec.db_config is None:
                return None  # the settings are invalid, not the entry: warnings() reports it
            raise invalid_field("db_config" if spec.connection is None else "connection", error) from None

    def _resolve_entry(self) -> tuple[SqlEntry, Database]:
        """The entry with its environment variables expanded, and its database, both validated.

        Raises:
            SourceFailed: if one is invalid.
        """
        spec = expand_entry(SqlEntry, self._entry)
        try:
            database = self._database(spec)
        except ValueError as error:
            raise SourceFailed(f"The database cannot be read: {error}.") from None
        try:
            check_query(spec.query, database.dialect)
        except ValueError as error:
            raise SourceFailed(f"The query {error}.") from None
        return spec, database

    def _database(self, spec: SqlEntry) -> Database:
        if spec.connection is not None:
            database = database_from_url(spec.connection)
        elif spec.db_config is not None:
            database = database_from_config(spec.db_config)
        else:
            database = database_from_url(self._policy.default_database, trusted=True)
        if database.dialect != "sqlite":
            return database
        if database.path in ("", ":memory:"):
            raise ValueError("an SQLite database must be a file: give the name of one in the data folder")
        if database.trusted:
            return replace(database, file=(self._policy.data_dir / database.path).resolve())
        return replace(database, file=allowed_path(database.path, self._policy))

    def _read(self, query: str, database: Database, requested: Collection[str] | None) -> Iterator[Batch]:
        clock, seconds = SystemClock(), self._policy.source_timeout
        deadline = clock.monotonic() + seconds

        def timed_out() -> bool:
            return clock.monotonic() > deadline

        batch_rows = self._policy.batch_rows
        fast_path = self._fast_path and adbc.driver_available(database.dialect)
        if (file := database.file) is not None:
            chunks = sqlite.read_rows(file, database.path, query, FETCH_ROWS, timed_out)
            if requested is not None and fast_path:
                yield from read_sqlite(chunks, file, query, requested, batch_rows=batch_rows, timed_out=timed_out)
                return
        else:
            if missing := missing_driver_message(database.dialect):
                raise SourceFailed(missing)
            from recserver._internal.chefs.sql import sqlalchemy_reader as engines

            if requested is not None and fast_path:
                batches = engines.read_arrow(database, query, requested, seconds, timed_out)
                if (first := next(batches, None)) is not None:
                    yield first
                    yield from batches
                    return
            chunks = engines.read_rows(database, query, FETCH_ROWS, seconds, timed_out)
        yield from to_batches(chunks, requested, batch_rows)


def _with_placeholders(spec: SqlEntry) -> SqlEntry:
    """``spec`` with valid placeholders for its environment variables."""
    connection, config = spec.connection and with_placeholders(spec.connection), spec.db_config
    if config is not None:
        texts = {name: with_placeholders(value) for name, value in config if isinstance(value, str)}
        config = config.model_copy(update=texts | ({"port": None} if "port" in texts else {}))
    return spec.model_copy(update={"connection": connection, "db_config": config})
