"""The whole workflow over HTTP, on real ratings, through all three kinds of data chef."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from recserver import RecServer
from recserver._internal.core.events import RunEnded
from tests.helpers.hyperparameters import QUICK_NMF

RENAMES = "userId->user_id,movieId->item_id"
USERS = ("1", "7", "42", "300", "671")


@pytest.fixture
def ratings(test_data: Path) -> Path:
    """Real ratings, one line each, under columns of their own names."""
    return test_data / "ml-latest-small" / "ratings.csv"


@pytest.fixture
async def http(rec: RecServer) -> AsyncIterator[ClientSession]:
    """A client of the server, by its documented prefix."""
    async with rec.serve() as url, ClientSession(f"{url}/api/v1/") as session:
        yield session


@pytest.fixture
async def shop(ratings: Path) -> AsyncIterator[str]:
    """The ratings behind somebody's REST API, in pages; yields the address."""
    with ratings.open(encoding="utf-8") as file:
        rows = [{"userId": int(r["userId"]), "movieId": int(r["movieId"]), "rating": float(r["rating"])}
                for r in csv.DictReader(file)]  # fmt: skip

    async def page(request: web.Request) -> web.Response:
        start = (int(request.query["page"]) - 1) * int(request.query["per_page"])
        end = start + int(request.query["per_page"])
        return web.json_response({"items": rows[start:end], "has_next": end < len(rows)})

    app = web.Application()
    app.router.add_get("/interactions", page)
    async with TestServer(app) as server:
        yield str(server.make_url("/interactions"))


async def call(http: ClientSession, method: str, path: str, **body: Any) -> dict[str, Any]:
    """The answer to one request that must succeed."""
    async with http.request(method, path, json=body or None) as response:
        answer: dict[str, Any] = await response.json()
    assert response.status == 200, answer
    return answer


async def test_csv_sqlite_and_rest_train_the_same_model(
    rec: RecServer, http: ClientSession, ratings: Path, shop: str
) -> None:
    shutil.copy(ratings, rec.data_dir / "ratings.csv")
    with sqlite3.connect(rec.data_dir / "shop.db") as database, ratings.open(encoding="utf-8") as file:
        database.execute("CREATE TABLE ratings (userId INTEGER, movieId INTEGER, rating REAL)")
        rows = [(r["userId"], r["movieId"], r["rating"]) for r in csv.DictReader(file)]
        database.executemany("INSERT INTO ratings VALUES (?, ?, ?)", rows)
    database.close()
    await call(http, "POST", "create_data_chef_from_csv",
               data_chef_id="csv", file_path="ratings.csv", rename_columns=RENAMES)  # fmt: skip
    await call(http, "POST", "create_data_chef_from_sql", data_chef_id="sql", rename_columns=RENAMES,
               query="SELECT userId, movieId, rating FROM ratings",
               db_config={"type": "sqlite", "database": "shop.db"})  # fmt: skip
    await call(http, "POST", "create_data_chef_from_api", data_chef_id="api", rename_columns=RENAMES,
               url=shop, paginated=True, size_param="per_page", size_value=20_000)  # fmt: skip

    answers = {}
    for chef in ("csv", "sql", "api"):
        answers[chef] = await train_and_ask(rec, http, chef)
    assert answers["csv"] == answers["sql"] == answers["api"]
    assert all(len(set(items)) == 10 for items in answers["csv"].values())
    assert len({tuple(items) for items in answers["csv"].values()}) > 1


async def train_and_ask(rec: RecServer, http: ClientSession, chef: str) -> dict[str, list[str]]:
    """What the best ten items are for some users, by a model trained from one chef."""
    model = f"from_{chef}"
    with rec.events.listen() as events:
        await call(http, "POST", "create_model", model_id=model, algorithm="nmf",
                   hyperparameters={**QUICK_NMF, "feedback": "weighted"})  # fmt: skip
        await call(http, "POST", "add_model_task",
                   task_name=f"train_{chef}", model_id=model, data_chef_id=chef, interval=3600)  # fmt: skip
        ended = await events.next(RunEnded)
    assert (ended.outcome, ended.error) == ("completed", None)
    info = await call(http, "GET", f"get_model_info/{model}")
    assert info["status"] == "completed"
    assert info["final_stats"]["total_interactions"] == 100_004
    assert (info["model_metrics"]["n_users"], info["model_metrics"]["n_items"]) == (671, 9066)
    best = {}
    for user in USERS:
        answer = await call(http, "GET", f"recommend/{user}/{model}/10")
        assert answer["source"] == "personal"
        best[user] = [item["item_id"] for item in answer["predictions"][user]]
    return best


@pytest.mark.slow
async def test_a_manually_created_folder_works_the_same(data_dir: Path, settings: Any, ratings: Path) -> None:
    for name in ("models", "tasks", "config"):
        (data_dir / name).mkdir(parents=True)
    shutil.copy(ratings, data_dir / "ratings.csv")
    config = {"algorithm": "nmf", "hyperparameters": QUICK_NMF, "owner": "ops"}
    (data_dir / "models/films.json").write_text(json.dumps(config))
    (data_dir / "config/restaurant_data.yaml").write_text(
        f"ratings:\n  type: CSV\n  path: ratings.csv\n  rename_columns: '{RENAMES}'\n"
    )
    task = {"model_id": "films", "interactions_data_chef_id": "ratings", "interval": 600, "note": "by hand"}
    (data_dir / "tasks/nightly.json").write_text(json.dumps(task))
    rec = RecServer(data_dir, settings)
    with rec.events.listen() as events:
        async with rec:
            ended = await events.next(RunEnded)
            assert (ended.outcome, ended.error) == ("completed", None)
            answer = await rec.recommend(7, model_id="films", n=5)
            assert (answer["source"], answer["n_recommendations"]) == ("personal", 5)
    written = json.loads((data_dir / "models/films_config.json").read_text())
    assert (written["status"], written["owner"], written["model_version"]) == ("completed", "ops", 1)
    assert json.loads((data_dir / "tasks/nightly.json").read_text()) == task


async def test_correcting_the_data_chef_trains_at_once(rec: RecServer, http: ClientSession) -> None:
    (rec.data_dir / "rows.csv").write_text("who,what\nann,tea\nann,scone\nbob,tea\n")
    chef = {"data_chef_id": "c", "file_path": "rows.csv"}
    await call(http, "POST", "create_model", model_id="m", algorithm="nmf", hyperparameters={"n_components": 2})
    await call(http, "POST", "create_data_chef_from_csv", **chef)
    with rec.events.listen() as events:
        await call(http, "POST", "add_model_task", task_name="t", model_id="m", data_chef_id="c", interval=86400)
        failed = await events.next(RunEnded)
        assert failed.outcome == "failed"
        assert "rename_columns: who->user_id,what->item_id" in str(failed.error)
        async with http.get("recommend/bob/m") as response:
            answer = await response.json()
        assert (response.status, answer["code"]) == (409, "model_not_trained")
        assert str(failed.error) in answer["detail"]
        renames = "who->user_id,what->item_id"
        await call(http, "POST", "create_data_chef_from_csv", **chef, rename_columns=renames, overwrite=True)
        assert (await events.next(RunEnded)).outcome == "completed"
    answer = await call(http, "GET", "recommend/bob/m")
    assert [item["item_id"] for item in answer["predictions"]["bob"]] == ["scone"]
    assert "error" not in await call(http, "GET", "get_model_info/m")
