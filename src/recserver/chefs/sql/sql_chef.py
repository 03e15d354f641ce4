"""The SQL chef: one SELECT against SQLite, PostgreSQL, MySQL, or what SQLAlchemy reaches besides."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from recserver.chefs.chef_entry import (
    ChefEntry,
    has_reference,
    invalid_field,
    read_entry,
    variable_warnings,
    with_placeholders,
)
from recserver.chefs.files.allowed_paths import allowed_path, missing_file_message
from recserver.chefs.protocol import Batch, RestartRead
from recserver.chefs.secrets import expand_environment, secret_values
from recserver.chefs.source_policy import SourcePolicy
from recserver.chefs.sql import adbc_reader as adbc
from recserver.chefs.sql import sqlite_reader as sqlite
from recserver.chefs.sql.database_config import (
    Database,
    DbConfig,
    database_from_config,
    database_from_url,
    missing_driver_message,
)
from recserver.chefs.sql.error_messages import source_failure
from recserver.chefs.sql.query_guard import check_query
from recserver.chefs.sql.row_batches import read_sqlite, to_batches
from recserver.core.clock import SystemClock
from recserver.core.errors import InvalidInput, SourceFailed
from recserver.core.validation.values import Text

FETCH_ROWS = 2_000
"""Rows fetched at a time. They become columns while the processor's cache still has them; more are slower."""


class SqlEntry(ChefEntry):
    """``query, rename_columns, db_config?`` or ``connection?``."""

    query: Text
    db_config: DbConfig | None = None
    connection: Text | None = Field(None, repr=False)


class SqlChef:
    """Reads what one query answers. See :class:`recserver.chefs.Chef`.

    Values come as the driver gives them: text, numbers, Decimal, dates, bytes, None. A wanted name that the
    query returns twice is an error.
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
            if database.dialect == "sqlite":
                missing = missing_file_message(self._sqlite_path(database), database.path)
            else:
                missing = missing_driver_message(database.dialect)
        except SourceFailed as error:
            missing = str(error)
        return [missing] if missing else []

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        spec, database = self._resolve_entry()
        seconds = self._policy.source_timeout
        try:
            yield from self._read(spec.query, database, wanted, seconds)
        except SourceFailed:
            raise
        except RestartRead:
            self._fast_path = False
            raise
        except Exception as error:
            raise source_failure(error, self._secrets(), seconds) from None

    def _check_database(self, spec: SqlEntry) -> str | None:
        """Check what is known of the database already; its dialect, or None while a variable stands for it."""
        if spec.connection is not None and spec.db_config is not None:
            raise invalid_field("connection", "give either connection or db_config, not both")
        field = "connection" if spec.connection is not None else "db_config"
        if has_reference((spec.connection or "").partition("://")[0]):
            return None
        try:
            database = self._database(_with_placeholders(spec))
            if database.dialect == "sqlite" and not database.trusted:
                self._sqlite_path(database)
        except ValueError as error:
            if spec.connection is None and spec.db_config is None:
                return None  # the settings are wrong, not the entry: a warning says so
            raise invalid_field(field, error) from None
        return database.dialect

    def _resolve_entry(self) -> tuple[SqlEntry, Database]:
        """The entry with its variables replaced, and its database, both checked.

        Raises:
            SourceFailed: with what is wrong with them.
        """
        try:
            spec = read_entry(SqlEntry, expand_environment(self._entry))
            database = self._database(spec)
            if database.dialect == "sqlite":
                self._sqlite_path(database)
        except InvalidInput as error:
            raise SourceFailed(f"The data chef cannot be used: {error}") from None
        except ValueError as error:
            raise SourceFailed(f"The database cannot be read: {error}.") from None
        try:
            check_query(spec.query, database.dialect)
        except ValueError as error:
            raise SourceFailed(f"The query {error}.") from None
        return spec, database

    def _database(self, spec: SqlEntry) -> Database:
        if spec.connection is not None:
            return database_from_url(spec.connection)
        if spec.db_config is not None:
            return database_from_config(spec.db_config)
        return database_from_url(self._policy.default_database, trusted=True)

    def _sqlite_path(self, database: Database) -> Path:
        if database.path in ("", ":memory:"):
            raise ValueError("an SQLite database must be a file: name one in the data folder")
        if database.trusted:
            return (self._policy.data_dir / database.path).resolve()
        return allowed_path(database.path, self._policy)

    def _read(
        self, query: str, database: Database, wanted: Collection[str] | None, seconds: float
    ) -> Iterator[Batch]:
        clock = SystemClock()
        deadline = clock.monotonic() + seconds

        def out_of_time() -> bool:
            return clock.monotonic() > deadline

        size = self._policy.batch_rows
        quickly = self._fast_path and wanted is not None and adbc.driver_available(database.dialect)
        if database.dialect == "sqlite":
            file = self._sqlite_path(database)
            chunks = sqlite.read_rows(file, database.path, query, FETCH_ROWS, out_of_time)
            if wanted is not None and quickly:
                yield from read_sqlite(chunks, file, query, wanted, batch_rows=size, timed_out=out_of_time)
                return
        else:
            if missing := missing_driver_message(database.dialect):
                raise SourceFailed(missing)
            from recserver.chefs.sql import sqlalchemy_reader as engines

            if wanted is not None and quickly:
                quick = engines.read_arrow(database, query, wanted, seconds, out_of_time)
                if (first := next(quick, None)) is not None:
                    yield first
                    yield from quick
                    return
            chunks = engines.read_rows(database, query, FETCH_ROWS, seconds, out_of_time)
        yield from to_batches(chunks, wanted, size)

    def _secrets(self) -> list[str]:
        default = {"connection": self._policy.default_database}
        return [*secret_values(expand_environment(self._entry)), *secret_values(default)]


def _with_placeholders(spec: SqlEntry) -> SqlEntry:
    """``spec`` with something harmless in the place of each variable."""
    config = spec.db_config
    if config is not None:
        harmless = {name: with_placeholders(part) for name, part in config if isinstance(part, str)}
        port = 1 if isinstance(config.port, str) else config.port
        config = config.model_copy(update=harmless | {"port": port})
    connection = None if spec.connection is None else with_placeholders(spec.connection)
    return spec.model_copy(update={"connection": connection, "db_config": config})
