"""Reads database servers through SQLAlchemy, in a read-only transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, suppress
from math import ceil
from typing import TYPE_CHECKING, Any

from recserver._internal.chefs.protocol import Batch
from recserver._internal.chefs.sql import adbc_reader as adbc
from recserver._internal.chefs.sql.database_config import Database, check_resolved_address
from recserver._internal.chefs.sql.error_messages import RowChunk, raise_timeout
from recserver._internal.core.errors import SourceFailed

if TYPE_CHECKING:
    from sqlalchemy import Connection

CONNECT_SECONDS = 10


def read_rows(
    database: Database, query: str, chunk_rows: int, seconds: float, timed_out: Callable[[], bool]
) -> Iterator[RowChunk]:
    """Chunks of the query's result; the first has no rows.

    Args:
        database: any but SQLite.
        query: one SELECT. It is passed to the driver unchanged: ``:name`` and ``%`` are not parameters.
        chunk_rows: maximum number of rows in a chunk; a server-side cursor holds the rest.
        seconds: the server's time limit for the statement, if it supports one.
        timed_out: called between chunks.

    Raises:
        TimeoutError: after a timeout.
        sqlalchemy.exc.SQLAlchemyError: for errors of the driver.
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
    with ExitStack() as stack:
        try:
            options = connection.execution_options(yield_per=chunk_rows, no_parameters=True)
            result = stack.enter_context(closing(options.exec_driver_sql(query)))
            if not result.returns_rows:
                raise SourceFailed("The query does not return rows: make it a SELECT.")
            names = tuple(result.keys())
            yield names, []
            for rows in result.partitions(chunk_rows):
                if timed_out():
                    raise TimeoutError
                yield names, [tuple(row) for row in rows]
        except BaseException:
            if connection.dialect.name in ("mysql", "mariadb"):
                _abort_connection(connection, driver)  # before ``result`` is closed
            raise


def _abort_connection(connection: Connection, driver: Any) -> None:
    """Close a connection whose result was not read completely.

    Otherwise pymysql would first read the rest when the connection is closed or collected, which may take minutes.
    """
    if (result := getattr(driver, "_result", None)) is not None:
        result.unbuffered_active = False
    if not connection.invalidated:
        connection.invalidate()


def _load_invalid_times_as_text(driver: Any, _: object) -> None:
    """Load dates and times that Python cannot represent, such as "infinity", as text instead of failing."""
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
    database: Database, query: str, requested: Collection[str], seconds: float, timed_out: Callable[[], bool]
) -> Iterator[Batch]:
    """Batches from :mod:`recserver._internal.chefs.sql.adbc_reader`; none at all if it cannot read the query."""
    assert database.url is not None  # noqa: S101 - for the type checker
    check_resolved_address(database.url)
    url = database.url.update_query_dict(
        {name: str(value) for name, value in connect_args(database, seconds).items()}
    )
    with suppress(adbc.FastPathUnavailable):
        statements = setup_statements(database.dialect, seconds)
        yield from adbc.read_postgresql(url, query, requested, statements, timed_out)


_SET_CONNECTION_CHECK = (
    "SELECT set_config(name, '2s', true) FROM pg_catalog.pg_settings "
    "WHERE name = 'client_connection_check_interval' AND strpos(version(), 'linux') > 0"
)
"""With this, PostgreSQL 14 and later cancels a query within seconds after its worker process is killed."""


def connect_args(database: Database, seconds: float) -> dict[str, Any]:
    """Arguments of the driver in addition to the URL."""
    if database.dialect == "postgresql":
        keepalive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        return {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 60_000, **keepalive}
    if database.dialect == "mysql":
        tls = {"ssl": {"check_hostname": False}} if database.tls else {}
        # The server cancels the query in time; this is for a server that stops responding.
        timeouts = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ceil(seconds) + CONNECT_SECONDS}
        # As str, pymysql would encode it as Latin-1.
        password = {"password": database.url.password.encode()} if database.url and database.url.password else {}
        return {"local_infile": False, **timeouts, **password, **tls}
    return {}


def setup_statements(dialect: str, seconds: float, *, mariadb: bool = False) -> list[str]:
    """Statements to execute before the query, in its transaction."""
    milliseconds = max(1, ceil(seconds * 1000))
    if dialect == "postgresql":
        limit = f"SET LOCAL statement_timeout = {milliseconds}"
        return ["SET TRANSACTION READ ONLY", limit, _SET_CONNECTION_CHECK]
    if dialect == "mysql":
        limit = (
            f"SET SESSION max_statement_time = {milliseconds / 1000:.3f}"
            if mariadb
            else f"SET SESSION max_execution_time = {milliseconds}"
        )
        # Statements such as DROP TABLE commit the transaction first: later transactions must be read-only too.
        return [limit, "SET SESSION TRANSACTION READ ONLY", "START TRANSACTION READ ONLY"]
    return ["SET TRANSACTION READ ONLY"] if dialect == "oracle" else []
