"""Real ratings out of PostgreSQL and MariaDB, through real worker processes, train the model the CSV trains."""

from __future__ import annotations

import asyncio
import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer
from recserver._internal.core.events import RunEnded
from tests.helpers import database_servers as servers
from tests.helpers.hyperparameters import QUICK_NMF

RENAMES = "userId->user_id,movieId->item_id"


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A database server."""
    if reason := servers.missing(request.param):
        pytest.skip(reason)
    with (servers.postgresql if request.param == "postgresql" else servers.mariadb)() as running:
        yield running


@pytest.fixture
def ratings(test_data: Path, server: Any) -> Path:
    """Real ratings as a file, and in the database as a table of the same name."""
    path = test_data / "ml-latest-small" / "ratings.csv"
    with path.open(encoding="utf-8") as file:
        rows = [(r["userId"], r["movieId"], r["rating"]) for r in csv.DictReader(file)]
    server.run(
        "DROP TABLE IF EXISTS ratings", "CREATE TABLE ratings (userId INT, movieId BIGINT, rating NUMERIC(2, 1))"
    )
    connection = server.connect("shop")
    cursor = connection.cursor()
    for start in range(0, len(rows), 10_000):
        values = ", ".join(f"({user}, {movie}, {rating})" for user, movie, rating in rows[start : start + 10_000])
        cursor.execute(f"INSERT INTO ratings VALUES {values}")
    connection.close()
    return path


async def test_a_database_trains_the_same_model_as_the_csv(rec: RecServer, server: Any, ratings: Path) -> None:
    shutil.copy(ratings, rec.data_dir / "ratings.csv")
    await rec.create_data_chef_from_csv(data_chef_id="csv", file_path="ratings.csv", rename_columns=RENAMES)
    query = 'SELECT userId AS "user_id", movieId AS "item_id", rating FROM ratings'
    if server.kind == "mysql":
        query = query.replace('"', "`")
    await rec.create_data_chef_from_sql(data_chef_id="sql", query=query, connection=server.dsn())
    answers = {}
    for chef in ("csv", "sql"):
        with rec.events.listen() as events:
            await rec.create_model(
                model_id=chef, algorithm="nmf", hyperparameters={**QUICK_NMF, "feedback": "weighted"}
            )
            await rec.add_model_task(task_name=chef, model_id=chef, data_chef_id=chef, interval=3600)
            ended = await events.next(RunEnded)
        assert (ended.outcome, ended.error) == ("completed", None)
        best = [await rec.recommend(user, model_id=chef, n=10) for user in (1, 7, 42, 300, 671)]
        answers[chef] = [[item["item_id"] for item in next(iter(one["predictions"].values()))] for one in best]
    assert answers["csv"] == answers["sql"]
    assert all(len(set(items)) == 10 for items in answers["csv"])


ENDLESS = "SELECT count(*) AS user_id FROM generate_series(1, 9000000) a, generate_series(1, 9000000) b"
ACTIVE = "SELECT pid FROM pg_stat_activity WHERE usename = 'shop' AND state = 'active'"


async def test_a_query_ends_on_the_server_when_its_training_is_cancelled(rec: RecServer, server: Any) -> None:
    if server.kind != "postgresql":
        return  # MariaDB learns that its client is gone when it sends rows, or when the time is over

    async def soon(active: bool) -> bool:
        """Whether in some seconds a query of ours runs there, or none does."""
        for _ in range(600):
            if bool(await asyncio.to_thread(server.run, ACTIVE, user="admin")) is active:
                return True
            await asyncio.to_thread(server.run, "SELECT pg_sleep(0.05)", user="admin")
        return False

    await rec.create_data_chef_from_sql("c", query=ENDLESS, connection=server.dsn())
    await rec.create_model("m", algorithm="nmf")
    await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
    assert await soon(active=True)
    assert (await rec.stop_scheduler())["stopped_models"] == ["m"]
    assert await soon(active=False)
