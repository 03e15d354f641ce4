"""One table of SQLite and of PostgreSQL, read by our chef and by ``pandas.read_sql``, in seconds."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from bench.beside import while_reading
from bench.child import NOTE, seconds_of
from bench.report import alternate, report
from bench.rows import make_rows, n_rows, names, rounds, write_csv
from recserver.chefs.sql import adbc_reader as adbc

ROWS = 1_000_000
QUERY = "SELECT user_id, item_id, rating, timestamp FROM interactions"
TABLE = "CREATE TABLE interactions (user_id text, item_id text, rating double precision, timestamp bigint)"


async def main() -> None:
    count = n_rows(ROWS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder) / "rows.db"
        _fill_sqlite(file, count)
        await _compare("SQLite", "sqlite", f"sqlite:///{file}", folder, count)
        await while_reading("sql SQLite", _entry(f"sqlite:///{file}"))
        url = stack.enter_context(_postgresql(Path(folder) / "rows.csv", count))
        if url is not None:
            await _compare("PostgreSQL", "postgresql", url, folder, count)
            await while_reading("sql PostgreSQL", _entry(url))


async def _compare(name: str, dialect: str, url: str, folder: str, count: int) -> None:
    whole, few = (
        json.dumps(_entry(url)),
        json.dumps(_entry(url, " LIMIT 10")),
    )
    ways = {"ordinary": "ordinary"}
    if adbc.driver_available(dialect):
        ways = {"ADBC": "quick"} | ways
    works = {"pandas.read_sql": seconds_of("bench.sql:with_pandas", url)}
    for said, way in ways.items():
        works[f"chef's batches, {said}"] = seconds_of("bench.sources:chef", folder, whole, few, way)
    for said, way in ways.items():
        works[f"collect(), {said}"] = seconds_of("bench.sources:collecting", folder, whole, few, way)
    if dialect == "sqlite":
        works["sqlite3, fetchall"] = seconds_of("bench.sql:with_sqlite3", url)
    found = await alternate(rounds(7), works)
    note = f"{NOTE}; pandas through SQLAlchemy with the same driver; collect() needs no times and leaves them out"
    report(f"sql {name}: {count:,} rows, ids of text", "s", found, note)


def with_pandas(url: str) -> Callable[[], int]:
    """For a child: the query as a data frame."""
    import pandas as pd
    from sqlalchemy import create_engine, text

    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))

    def read(query: str) -> int:
        with engine.connect() as connection:
            return len(pd.read_sql(text(query), connection))

    read(f"{QUERY} WHERE timestamp < 0")
    return lambda: read(QUERY)


def with_sqlite3(url: str) -> Callable[[], int]:
    """For a child: the query as a list of rows."""

    def read() -> int:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return len(connection.execute(QUERY).fetchall())

    return read


def _entry(url: str, more: str = "") -> dict[str, Any]:
    if url.startswith("sqlite"):
        config: dict[str, Any] = {"type": "sqlite", "database": url.removeprefix("sqlite:///")}
        return {"type": "sql", "query": QUERY + more, "db_config": config}
    return {"type": "sql", "query": QUERY + more, "connection": url}


def _fill_sqlite(path: Path, count: int) -> None:
    rows = make_rows(count)
    users, items = names(rows)
    columns = (
        (users[user] for user in rows.users.tolist()),
        (items[item] for item in rows.items.tolist()),
        rows.ratings.astype(float).tolist(),
        rows.times.tolist(),
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(TABLE)
        connection.executemany("INSERT INTO interactions VALUES (?, ?, ?, ?)", zip(*columns, strict=True))


@contextmanager
def _postgresql(file: Path, count: int) -> Iterator[str | None]:
    """A server of our own with the same rows; None where PostgreSQL is not installed."""
    from tests.helpers import database_servers as servers

    if missing := servers.missing("postgresql"):
        print(f"sql PostgreSQL: left out; {missing}")
        yield None
        return
    write_csv(file, count)
    with servers.postgresql() as server:
        server.run(TABLE)
        with server.connect("shop") as connection, connection.cursor() as cursor:
            with cursor.copy("COPY interactions FROM STDIN (FORMAT csv, HEADER)") as copy, file.open("rb") as rows:
                while data := rows.read(2**20):
                    copy.write(data)
            cursor.execute("ANALYZE interactions")
        yield server.dsn()
