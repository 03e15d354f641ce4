"""Rows of a database server, read through SQLAlchemy in a transaction that refuses to write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Any

from recserver.chefs.protocol import Batch
from recserver.chefs.sql import adbc_reader as adbc
from recserver.chefs.sql.database_config import Database, check_resolved_address
from recserver.chefs.sql.error_messages import raise_timeout
from recserver.core.errors import SourceFailed

if TYPE_CHECKING:
    from sqlalchemy import Connection

CONNECT_SECONDS = 10

RowChunk = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def read_rows(
    database: Database, query: str, chunk_rows: int, seconds: float, timed_out: Callable[[], bool]
) -> Iterator[RowChunk]:
    """(column names, up to ``size`` rows) until there are no more; at least once.

    Args:
        database: with a ``url``, so no SQLite.
        query: one SELECT. It reaches the driver as it is: ``:name`` and ``%`` in it mean nothing to us.
        size: rows at a time; the server keeps the rest.
        seconds: that the server may take for the statement, where it can be told so.
        out_of_time: asked between the chunks.

    Raises:
        TimeoutError: if the time is over.
        sqlalchemy.exc.SQLAlchemyError: and whatever the driver complains with.
    """
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    assert database.url is not None  # noqa: S101 - for the type checker
    check_resolved_address(database.url)
    engine = create_engine(
        database.url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args=connect_args(database, seconds),
        execution_options=READ_ONLY_OPTIONS.get(database.dialect, {}),
    )
    if database.dialect == "postgresql":
        event.listen(engine, "connect", _load_invalid_times_as_text)
    with engine.connect() as connection, raise_timeout(timed_out):
        mariadb = bool(getattr(engine.dialect, "is_mariadb", False))
        for statement in setup_statements(database.dialect, seconds, mariadb=mariadb):
            connection.exec_driver_sql(statement)
        yield from _fetch_rows(connection, query, chunk_rows, timed_out)


def _fetch_rows(
    connection: Connection, query: str, chunk_rows: int, timed_out: Callable[[], bool]
) -> Iterator[RowChunk]:
    driver = connection.connection.driver_connection
    try:
        result = connection.execution_options(yield_per=chunk_rows, no_parameters=True).exec_driver_sql(query)
        if not result.returns_rows:
            raise SourceFailed("The query answers no rows, not even none: make it a SELECT.")
        names = tuple(result.keys())
        yield names, []
        for rows in result.partitions(chunk_rows):
            if timed_out():
                raise TimeoutError
            yield names, [tuple(row) for row in rows]
    except BaseException:
        if connection.dialect.name in ("mysql", "mariadb"):
            _abort_connection(connection, driver)  # here, where ``result`` is still there
        raise


def _abort_connection(connection: Connection, driver: Any) -> None:
    """End a connection whose answer was not read to its end.

    pymysql would read the rest of it first, be it for minutes: in closing, and wherever it is cleared away.
    """
    if (answer := getattr(driver, "_result", None)) is not None:
        answer.unbuffered_active = False
    if not connection.invalidated:
        connection.invalidate()


def _load_invalid_times_as_text(driver: Any, _: object) -> None:
    """Have dates and times that Python does not know, such as "infinity", come as text instead of an error."""
    from psycopg import DataError
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    def tolerant(strict: type[Any]) -> type[Loader]:
        class Tolerant(Loader):
            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._load = strict(oid, context).load

            def load(self, data: Any) -> Any:
                try:
                    return self._load(data)
                except DataError:
                    return bytes(data).decode()

        return Tolerant

    for name in ("date", "time", "timetz", "timestamp", "timestamptz"):
        oid = driver.adapters.types[name].oid
        if (strict := driver.adapters.get_loader(oid, Format.TEXT)) is not None:
            driver.adapters.register_loader(oid, tolerant(strict))


def read_arrow(
    database: Database, query: str, wanted: Collection[str], seconds: float, timed_out: Callable[[], bool]
) -> Iterator[Batch]:
    """As :mod:`recserver.chefs.sql.adbc_reader` reads it; nothing at all if the query is to be read in the
    ordinary way.
    """
    assert database.url is not None  # noqa: S101 - for the type checker
    check_resolved_address(database.url)
    url = database.url.update_query_dict(
        {name: str(value) for name, value in connect_args(database, seconds).items()}
    )
    statements = ["SET TRANSACTION READ ONLY", *setup_statements(database.dialect, seconds)]
    with suppress(adbc.FastPathUnavailable):
        yield from adbc.read_postgresql(url, query, wanted, statements, timed_out)


_SET_CONNECTION_CHECK = (
    "SELECT set_config(name, '2s', true) FROM pg_catalog.pg_settings "
    "WHERE name = 'client_connection_check_interval' AND strpos(version(), 'linux') > 0"
)
"""PostgreSQL from version 14 on then ends a query within seconds whose worker was killed."""

READ_ONLY_OPTIONS: dict[str, dict[str, Any]] = {"postgresql": {"postgresql_readonly": True}}
"""Options with which SQLAlchemy begins the transaction."""


def connect_args(database: Database, seconds: float) -> dict[str, Any]:
    """What the driver is told besides the URL."""
    if database.dialect == "postgresql":
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        return {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 60_000, **alive}
    if database.dialect == "mysql":
        encrypted = {"ssl": {"check_hostname": False}} if database.tls else {}
        # The server itself ends the query in time; this is for one that says nothing any more.
        waits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ceil(seconds) + CONNECT_SECONDS}
        # As text, pymysql would encode it as Latin-1.
        secret = {"password": database.url.password.encode()} if database.url and database.url.password else {}
        return {"local_infile": False, **waits, **secret, **encrypted}
    return {}


def setup_statements(dialect: str, seconds: float, *, mariadb: bool = False) -> list[str]:
    """Statements that come before the query, in its transaction."""
    milliseconds = max(1, ceil(seconds * 1000))
    if dialect == "postgresql":
        return [f"SET LOCAL statement_timeout = {milliseconds}", _SET_CONNECTION_CHECK]
    if dialect == "mysql":
        limit = (
            f"SET SESSION max_statement_time = {milliseconds / 1000:.3f}"
            if mariadb
            else f"SET SESSION max_execution_time = {milliseconds}"
        )
        # DROP TABLE and the like end a transaction before they begin: so the next ones only read as well.
        return [limit, "SET SESSION TRANSACTION READ ONLY", "START TRANSACTION READ ONLY"]
    return ["SET TRANSACTION READ ONLY"] if dialect == "oracle" else []
