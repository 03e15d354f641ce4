"""The table of an export, and whether it may be written to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recserver._internal.chefs.files.allowed_paths import allowed_path
from recserver._internal.chefs.redaction import Redactor
from recserver._internal.chefs.secrets import expand_environment, secret_values
from recserver._internal.chefs.sql.database_config import Database, database_from_url, missing_driver_message
from recserver._internal.chefs.sql.error_messages import error_message
from recserver._internal.core.errors import InvalidInput, SourceFailed, quoted
from recserver._internal.training.export.export_job import TableTarget, split_table_name

WRITABLE_DIALECTS = "sqlite", "postgresql", "mysql"

RESERVED_PREFIX = "history.db"
"""The prefix of the names of recserver's own SQLite databases."""


@dataclass(frozen=True, slots=True)
class TableLocation:
    """A table.

    Attributes:
        file: of an SQLite database, absolute; None for any other database.
    """

    database: Database
    schema: str | None
    name: str
    file: Path | None
    _entry: Mapping[str, str]

    def error_message(self, error: Exception, seconds: float) -> str:
        """The error of a database as a sentence, without secrets and values of environment variables."""
        secrets = *secret_values(self._entry), *secret_values(expand_environment(self._entry))
        return self.redact(error_message(error, secrets, seconds, writing=True))

    def redact(self, sentence: str) -> str:
        """A sentence without secrets and values of environment variables."""
        return Redactor(self._entry).redact_message(sentence)

    @property
    def key(self) -> str:
        """Equal for locations of the same table, as far as their addresses show."""
        url = self.database.url
        where = str(self.file) if url is None else f"{url.host}:{url.port}/{url.database}"
        return f"{self.database.dialect} {where} {self.schema} {self.name}".casefold()


def locate_table(target: TableTarget) -> TableLocation:
    """The location of a table, without connecting to its database.

    Raises:
        InvalidInput: if the database cannot or must not be used.
    """
    url = target.policy.default_database if target.database is None else target.database
    trusted = target.base_folder is not None or target.database is None
    entry = {"connection": url}
    try:
        expanded = expand_environment(entry)
        database = database_from_url(expanded["connection"], trusted=trusted)
        if database.dialect not in WRITABLE_DIALECTS:
            raise ValueError("must be one of SQLite, PostgreSQL, MySQL or MariaDB: others are read only")
        if missing := missing_driver_message(database.dialect, "Writing to"):
            raise SourceFailed(missing)
        schema, name = split_table_name(target.table)
        if schema is None and database.dialect == "mysql" and not (database.url and database.url.database):
            raise ValueError("names no database: add /name to the URL, or give the table as name.table")
        file = _sqlite_path(database, target) if database.dialect == "sqlite" else None
    except SourceFailed as error:
        raise _invalid_field("database", Redactor(entry).redact_message(str(error))) from None
    except ValueError as error:
        raise _invalid_field("database", Redactor(entry).redact_message(f"{error}.")) from None
    if file is not None and schema is not None:
        raise _invalid_field("table", "An SQLite database has no schemas: give the name of the table alone.")
    if file is not None and name.casefold().startswith("sqlite_"):
        raise _invalid_field("table", "Names that begin with sqlite_ are SQLite's own: give another.")
    return TableLocation(database, schema, name, file, entry)


def _invalid_field(field: str, sentence: str) -> InvalidInput:
    return InvalidInput.of(field, sentence.removesuffix("."))


def _sqlite_path(database: Database, target: TableTarget) -> Path:
    """The path of an SQLite database. A new one is created only in the data folder, or where the operator
    named it."""
    data_dir = target.policy.data_dir.resolve()
    if database.path in ("", ":memory:"):
        raise ValueError("an SQLite database must be a file: name one in the data folder")
    trusted_path = ((target.base_folder or data_dir) / database.path).resolve() if database.trusted else None
    path = trusted_path or allowed_path(database.path, target.policy)
    if path.parent == data_dir and path.name.casefold().startswith(RESERVED_PREFIX):
        raise ValueError(f"{quoted(database.path)} is one of recserver's own files: name another")
    if not path.exists():
        if not (database.trusted or path.is_relative_to(data_dir)):
            raise ValueError(
                f"there is no file {quoted(database.path)}, and new ones are created in the data folder only"
            )
        if not os.access(path.parent, os.W_OK):
            raise ValueError(
                f"{quoted(database.path)} cannot be created: its folder is missing, or cannot be written"
            )
    return path
