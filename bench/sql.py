"""Reading a table of SQLite and of PostgreSQL with a data chef, compared with ``pandas.read_sql``."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from bench.fresh_process import NOTE, seconds_of
from bench.random_interactions import id_lists, make_rows, write_csv
from bench.report import measure_round_robin, report
from bench.serving_latency import measure_while_reading
from bench.settings import n_rows, rounds
from recserver._internal.chefs.sql import adbc_reader as adbc

ROWS = 1_000_000
QUERY = "SELECT user_id, item_id, rating, timestamp FROM interactions"
TABLE = "CREATE TABLE interactions (user_id text, item_id text, rating double precision, timestamp bigint)"


async def main() -> None:
    count = n_rows(ROWS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder) / "rows.db"
        _create_sqlite(file, count)
        await _compare("SQLite", "sqlite", f"sqlite:///{file}", folder, count)
        await measure_while_reading("sql SQLite", _entry(f"sqlite:///{file}"))
        url = stack.enter_context(_postgresql(Path(folder) / "rows.csv", count))
        if url is not None:
            await _compare("PostgreSQL", "postgresql", url, folder, count)
            await measure_while_reading("sql PostgreSQL", _entry(url))


async def _compare(name: str, dialect: str, url: str, folder: str, count: int) -> None:
    chef_arguments = folder, json.dumps(_entry(url)), json.dumps(_entry(url, " LIMIT 10"))
    drivers = {"ADBC": "adbc"} if adbc.driver_available(dialect) else {}
    drivers["standard driver"] = "standard"
    measures = {"pandas.read_sql": seconds_of("bench.sql:with_pandas", url)}
    for label, driver in drivers.items():
        measures[f"data chef's batches, {label}"] = seconds_of(
            "bench.chef_reading:read_batches", *chef_arguments, driver
        )
    for label, driver in drivers.items():
        measures[f"collect(), {label}"] = seconds_of(
            "bench.chef_reading:collect_interactions", *chef_arguments, driver
        )
    if dialect == "sqlite":
        measures["sqlite3, fetchall"] = seconds_of("bench.sql:with_sqlite3", url)
    seconds = await measure_round_robin(rounds(7), measures)
    note = f"{NOTE}; pandas through SQLAlchemy with the same driver; collect() does not read the timestamps"
    report(f"sql {name}: reading {count:,} rows with text ids", "s", seconds, note)


def with_pandas(url: str) -> Callable[[], int]:
    """Read the query into a data frame."""
    import pandas as pd
    from sqlalchemy import create_engine, text

    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))

    def read(query: str) -> int:
        with engine.connect() as connection:
            return len(pd.read_sql(text(query), connection))

    read(f"{QUERY} WHERE timestamp < 0")
    return lambda: read(QUERY)


def with_sqlite3(url: str) -> Callable[[], int]:
    """Read the query into a list of rows."""

    def read() -> int:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return len(connection.execute(QUERY).fetchall())

    return read


def _entry(url: str, suffix: str = "") -> dict[str, Any]:
    if url.startswith("sqlite"):
        config: dict[str, Any] = {"type": "sqlite", "database": url.removeprefix("sqlite:///")}
        return {"type": "sql", "query": QUERY + suffix, "db_config": config}
    return {"type": "sql", "query": QUERY + suffix, "connection": url}


def _create_sqlite(path: Path, count: int) -> None:
    rows = make_rows(count)
    users, items = id_lists(rows)
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
    """Start a PostgreSQL server with the same rows; yields its URL, or None where it is not installed."""
    from tests.helpers import database_servers as servers

    if missing := servers.missing("postgresql"):
        print(f"sql PostgreSQL: skipped; {missing}")
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
