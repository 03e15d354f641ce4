"""Rows of a database server, read through SQLAlchemy in a transaction that refuses to write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

from recserver.chefs import Batch, adbc
from recserver.chefs.databases import Database, check_resolved

CONNECT_SECONDS = 10

Chunk = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def read(
    database: Database, query: str, size: int, seconds: float, out_of_time: Callable[[], bool]
) -> Iterator[Chunk]:
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
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    assert database.url is not None  # noqa: S101 - for the type checker
    check_resolved(database.url)
    engine = create_engine(
        database.url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args=connect_arguments(database, seconds),
        execution_options=READ_ONLY.get(database.dialect, {}),
    )
    with engine.connect() as connection:
        for statement in opening(
            database.dialect, seconds, mariadb=bool(getattr(engine.dialect, "is_mariadb", 0))
        ):
            connection.exec_driver_sql(statement)
        options = {"yield_per": size, "no_parameters": True}
        result = connection.execution_options(**options).exec_driver_sql(query)
        names = tuple(result.keys())
        yield names, []
        for rows in result.partitions(size):
            if out_of_time():
                raise TimeoutError
            yield names, [tuple(row) for row in rows]


def read_quickly(
    database: Database, query: str, wanted: Collection[str], seconds: float, out_of_time: Callable[[], bool]
) -> Iterator[Batch]:
    """As :mod:`recserver.chefs.adbc` reads it; nothing at all if the query is to be read in the ordinary way."""
    assert database.url is not None  # noqa: S101 - for the type checker
    check_resolved(database.url)
    url = database.url.update_query_dict(
        {name: str(value) for name, value in connect_arguments(database, seconds).items()}
    )
    statements = ["SET TRANSACTION READ ONLY", *opening(database.dialect, seconds)]
    with suppress(adbc.NotQuick):
        yield from adbc.read_postgresql(url, query, wanted, statements, out_of_time)


READ_ONLY: dict[str, dict[str, Any]] = {"postgresql": {"postgresql_readonly": True}}
"""Options with which SQLAlchemy begins the transaction."""


def connect_arguments(database: Database, seconds: float) -> dict[str, Any]:
    """What the driver is told besides the URL."""
    if database.dialect == "postgresql":
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        return {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 60_000, **alive}
    if database.dialect == "mysql":
        encrypted = {"ssl": {"check_hostname": False}} if database.tls else {}
        waits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": max(1, round(seconds))}
        return {"local_infile": False, **waits, **encrypted}
    return {}


def opening(dialect: str, seconds: float, *, mariadb: bool = False) -> list[str]:
    """Statements that come before the query, in its transaction."""
    milliseconds = max(1, round(seconds * 1000))
    if dialect == "postgresql":
        return [f"SET LOCAL statement_timeout = {milliseconds}"]
    if dialect == "mysql":
        limit = (
            f"SET SESSION max_statement_time = {seconds:.3f}"
            if mariadb
            else f"SET SESSION max_execution_time = {milliseconds}"
        )
        return [limit, "START TRANSACTION READ ONLY"]
    return ["SET TRANSACTION READ ONLY"] if dialect == "oracle" else []
