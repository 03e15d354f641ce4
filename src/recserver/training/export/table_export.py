"""Recommendations in a table, which has either all rows of an export or those from before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

from recserver.chefs.sql.database_config import check_resolved
from recserver.chefs.sql.sqlalchemy_reader import connect_arguments
from recserver.core.errors import ExportFailed, SourceFailed, shown
from recserver.core.validation.values import LONGEST_ENTITY_ID
from recserver.training.export.export_job import COLUMNS, TableTarget
from recserver.training.export.rows import Exported, Write
from recserver.training.export.table_columns import KEY, refuse_view, require_columns, values_of
from recserver.training.export.table_target import Place, located

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Inspector, Table
    from sqlalchemy.engine.interfaces import ReflectedColumn

LONGEST_MODEL_ID = 255
"""Characters: as long as the name of a file can be."""


def table_of(target: TableTarget, of: Exported) -> AbstractContextManager[Write]:
    """Replace a model's rows in a table by those that are written, in one transaction.

    Whoever reads meanwhile sees the rows from before, and so does everybody if the block ends by an exception. The
    table is made if it is missing; what it holds of other models stays.

    Raises:
        InvalidInput: if the database may not be used.
        ExportFailed: if the table has other columns, or the database refuses.
    """
    place = located(target)
    if place.file is not None:
        from recserver.training.export.sqlite_export import rows_of

        return rows_of(place, of)
    return _rows_of(place, of, target.policy.source_timeout)


@contextmanager
def _rows_of(place: Place, of: Exported, seconds: float) -> Iterator[Write]:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    url = place.database.url
    assert url is not None  # noqa: S101 - for the type checker
    arguments = connect_arguments(place.database, seconds)
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    try:
        check_resolved(url)
        with _connected(engine, place, seconds) as connection, connection.begin():
            if engine.dialect.name == "postgresql":  # which else waits for ever for who has locked the table
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {ceil(seconds * 1000)}")
            table = _ready(connection, place)
            connection.execute(table.delete().where(table.c.model_id == of.model_id))
            yield lambda rows: _insert(connection, table, values_of(rows, of))
    except SourceFailed as error:
        raise ExportFailed(place.hidden(str(error))) from None
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        raise ExportFailed(place.in_words(error, seconds)) from None


def _connected(engine: Engine, place: Place, seconds: float) -> Connection:
    try:
        return engine.connect()
    except Exception as error:  # drivers find fault with a URL's parameters in any way
        raise ExportFailed(place.in_words(error, seconds)) from None


def _insert(connection: Connection, table: Table, values: list[tuple[Any, ...]]) -> None:
    """By the quickest way that each driver has: SQLAlchemy's own takes several times as long."""
    quote = connection.dialect.identifier_preparer
    into = f"{quote.format_table(table)} ({', '.join(map(quote.quote, COLUMNS))})"
    if connection.dialect.name != "postgresql":
        marks = ", ".join(["%s"] * len(COLUMNS))
        connection.exec_driver_sql(f"INSERT INTO {into} VALUES ({marks})", values)  # noqa: S608 - quoted names
        return
    cursor: Any = connection.connection.cursor()
    with cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)


def _ready(connection: Connection, place: Place) -> Table:
    """The table, made if it is missing."""
    from sqlalchemy import inspect

    table = _table(connection, place)
    look = inspect(connection)
    if look.has_table(place.name, schema=place.schema):
        if place.name in _views(look, place):
            refuse_view(place.name)
        columns = look.get_columns(place.name, schema=place.schema)
        require_columns(place.name, {one["name"] for one in columns}, [*_required(columns)])
    else:
        table.create(connection)
    if connection.dialect.name == "mysql":
        _require_transactions(connection, place)
    return table


def _views(look: Inspector, place: Place) -> list[str]:
    views = look.get_view_names(schema=place.schema)
    return views + (look.get_materialized_view_names(place.schema) if look.dialect.name == "postgresql" else [])


def _required(columns: Sequence[ReflectedColumn]) -> Iterator[str]:
    """The columns that a row has to bring a value for."""
    for one in columns:
        filled = one["nullable"] or one["default"] is not None or one.get("autoincrement") is True
        if not (filled or "identity" in one or "computed" in one):
            yield one["name"]


def _require_transactions(connection: Connection, place: Place) -> None:
    """
    Raises:
        ExportFailed: if a table of MySQL or MariaDB is of an engine that cannot take anything back.
    """
    found = connection.exec_driver_sql(_WITHOUT_TRANSACTIONS, (place.schema, place.name)).scalar()
    if found is not None:
        raise ExportFailed(
            f"The table {shown(place.name)} is of the engine {found}, which has no transactions: "
            "ALTER TABLE … ENGINE = InnoDB, or name another table."
        )


def _table(connection: Connection, place: Place) -> Table:
    from sqlalchemy import BigInteger, Column, Double, Integer, MetaData, String, Table

    collation = None
    if connection.dialect.name == "mysql":  # whose usual ones take "ann", "Ann" and "ann " for one id
        collation = "utf8mb4_nopad_bin" if getattr(connection.dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
    kinds: dict[str, Any] = {
        "model_id": String(LONGEST_MODEL_ID, collation),
        "model_version": BigInteger(),
        "user_id": String(LONGEST_ENTITY_ID, collation),
        "rank": Integer(),
        "item_id": String(LONGEST_ENTITY_ID, collation),
        "score": Double(),
    }
    columns: list[Column[Any]] = [
        Column(name, kinds[name], primary_key=name in KEY, nullable=False, autoincrement=False) for name in COLUMNS
    ]
    return Table(place.name, MetaData(), *columns, schema=place.schema, mysql_engine="InnoDB")


_WITHOUT_TRANSACTIONS = (
    "SELECT engine FROM information_schema.tables JOIN information_schema.engines USING (engine) "
    "WHERE transactions = 'NO' AND table_schema = COALESCE(%s, DATABASE()) AND table_name = %s"
)
