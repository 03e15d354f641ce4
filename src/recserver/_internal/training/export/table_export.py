"""Exports to a table, which has either all rows of an export or the previous ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from recserver._internal.chefs.sql.database_config import check_resolved_address
from recserver._internal.chefs.sql.sqlalchemy_reader import connect_args
from recserver._internal.core.errors import ExportFailed, SourceFailed, quoted
from recserver._internal.core.validation.values import MAX_ENTITY_ID_LENGTH
from recserver._internal.training.export.export_job import COLUMNS, ExportRow, TableTarget, WriteRows
from recserver._internal.training.export.table_columns import PRIMARY_KEY, reject_view, require_columns
from recserver._internal.training.export.table_target import TableLocation, locate_table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Inspector, Table
    from sqlalchemy.engine.interfaces import ReflectedColumn

MAX_MODEL_ID_CHARS = 255
"""Characters: the maximum length of a file name."""


def open_table_target(target: TableTarget, model_id: str) -> AbstractContextManager[WriteRows]:
    """Replace the rows of a model in a table, in one transaction.

    Readers see the previous rows until the end, and keep seeing them if the block ends with an exception. The
    table is created if it is missing; rows of other models stay.

    Raises:
        InvalidInput: if the database may not be used.
        ExportFailed: if the table has other columns, or the database reports an error.
    """
    location = locate_table(target)
    if location.file is not None:
        from recserver._internal.training.export.sqlite_export import open_sqlite_target

        return open_sqlite_target(location, model_id)
    return _open_server_target(location, model_id, target.policy.source_timeout)


@contextmanager
def _open_server_target(location: TableLocation, model_id: str, seconds: float) -> Iterator[WriteRows]:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    url = location.database.url
    assert url is not None  # noqa: S101 - for the type checker
    arguments = connect_args(location.database, seconds)
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    try:
        check_resolved_address(url)
        with _connect(engine, location, seconds) as connection, connection.begin():
            if engine.dialect.name == "postgresql":  # which otherwise waits forever for a lock
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {ceil(seconds * 1000)}")
            table = _ensure_table(connection, location)
            connection.execute(table.delete().where(table.c.model_id == model_id))
            yield partial(_insert, connection, table)
    except SourceFailed as error:
        raise ExportFailed(location.redact(str(error))) from None
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        raise ExportFailed(location.error_message(error, seconds)) from None


def _connect(engine: Engine, location: TableLocation, seconds: float) -> Connection:
    try:
        return engine.connect()
    except Exception as error:  # drivers raise anything for wrong parameters in a URL
        raise ExportFailed(location.error_message(error, seconds)) from None


def _insert(connection: Connection, table: Table, rows: Sequence[ExportRow]) -> None:
    """Insert rows in the fastest way of each driver: SQLAlchemy's own takes several times as long."""
    quote = connection.dialect.identifier_preparer
    into = f"{quote.format_table(table)} ({', '.join(map(quote.quote, COLUMNS))})"
    if connection.dialect.name != "postgresql":
        placeholders = ", ".join(["%s"] * len(COLUMNS))
        connection.exec_driver_sql(f"INSERT INTO {into} VALUES ({placeholders})", list(rows))  # noqa: S608 - quoted names
        return
    cursor: Any = connection.connection.cursor()
    with cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _ensure_table(connection: Connection, location: TableLocation) -> Table:
    """The table, created if it is missing."""
    from sqlalchemy import inspect

    table = _table(connection, location)
    inspector = inspect(connection)
    if inspector.has_table(location.name, schema=location.schema):
        if location.name in _view_names(inspector, location):
            reject_view(location.name)
        columns = inspector.get_columns(location.name, schema=location.schema)
        require_columns(location.name, {one["name"] for one in columns}, [*_required_columns(columns)])
    else:
        table.create(connection)
    if connection.dialect.name == "mysql":
        _require_transactions(connection, location)
    return table


def _view_names(inspector: Inspector, location: TableLocation) -> list[str]:
    views = inspector.get_view_names(schema=location.schema)
    return views + (
        inspector.get_materialized_view_names(location.schema) if inspector.dialect.name == "postgresql" else []
    )


def _required_columns(columns: Sequence[ReflectedColumn]) -> Iterator[str]:
    """The columns that need a value in every row."""
    for one in columns:
        filled = one["nullable"] or one["default"] is not None or one.get("autoincrement") is True
        if not (filled or "identity" in one or "computed" in one):
            yield one["name"]


def _require_transactions(connection: Connection, location: TableLocation) -> None:
    """
    Raises:
        ExportFailed: if a table of MySQL or MariaDB has an engine without transactions.
    """
    found = connection.exec_driver_sql(_NON_TRANSACTIONAL_ENGINE, (location.schema, location.name)).scalar()
    if found is not None:
        raise ExportFailed(
            f"The table {quoted(location.name)} is of the engine {found}, which has no transactions: "
            "ALTER TABLE … ENGINE = InnoDB, or name another table."
        )


def _table(connection: Connection, location: TableLocation) -> Table:
    from sqlalchemy import BigInteger, Column, Double, Integer, MetaData, String, Table

    collation = None
    if connection.dialect.name == "mysql":  # whose default collations take "ann", "Ann" and "ann " for the same id
        collation = "utf8mb4_nopad_bin" if getattr(connection.dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
    kinds: dict[str, Any] = {
        "model_id": String(MAX_MODEL_ID_CHARS, collation),
        "model_version": BigInteger(),
        "user_id": String(MAX_ENTITY_ID_LENGTH, collation),
        "rank": Integer(),
        "item_id": String(MAX_ENTITY_ID_LENGTH, collation),
        "score": Double(),
    }
    columns: list[Column[Any]] = [
        Column(name, kinds[name], primary_key=name in PRIMARY_KEY, nullable=False, autoincrement=False)
        for name in COLUMNS
    ]
    return Table(location.name, MetaData(), *columns, schema=location.schema, mysql_engine="InnoDB")


_NON_TRANSACTIONAL_ENGINE = (
    "SELECT engine FROM information_schema.tables JOIN information_schema.engines USING (engine) "
    "WHERE transactions = 'NO' AND table_schema = COALESCE(%s, DATABASE()) AND table_name = %s"
)
