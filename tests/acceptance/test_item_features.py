"""Item features of a task: from a file through a worker process to the serving model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from recserver import RecServer
from recserver._internal.core.events import RunEnded, RunSkipped
from recserver._internal.recommend.filters import parse_condition
from recserver._internal.recommend.model.item_attributes import Attributes, require_attributes
from tests.helpers.hyperparameters import QUICK_NMF

FILMS = "movieId,title,genres\ni0,Big,Comedy\ni1,Alien,Horror|Sci-Fi\ni2,Heat,Drama\nx,Unknown,Western\n"
ROWS = "user_id,item_id\n" + "".join(
    f"u{user},i{item}\n" for user in range(30) for item in range(5) if user % 5 != item
)


def write(rec: RecServer, name: str, text: str) -> None:
    (rec.data_dir / name).write_text(text)


@pytest.fixture
async def shop(rec: RecServer) -> RecServer:
    """A model, its interactions and the attributes of its items; no task yet."""
    write(rec, "rows.csv", ROWS)
    write(rec, "films.csv", FILMS)
    await rec.create_model("m", algorithm="nmf", hyperparameters={**QUICK_NMF, "n_components": 2})
    await rec.create_data_chef_from_csv("c", file_path="rows.csv")
    await rec.create_data_chef_from_csv(
        "films", file_path="films.csv", rename_columns="movieId->item_id,genres->genre"
    )
    return rec


async def run(rec: RecServer, **task: Any) -> RunEnded:
    """Add (or replace) task ``t`` and wait for its run to end."""
    with rec.events.listen() as events:
        asked = {"model_id": "m", "data_chef_id": "c", "interval": 3600, "item_features_data_chef_id": "films"}
        await rec.add_model_task("t", overwrite=True, **(asked | task))
        return await events.next(RunEnded)


async def again(rec: RecServer) -> RunEnded:
    """The next run of task ``t`` by its schedule, a second later at most."""
    with rec.events.listen() as events:
        await rec.update_task_interval("t", interval=1)
        return await events.next(RunEnded)


def attributes(rec: RecServer) -> Attributes | None:
    """Those of the version that serves."""
    recommender = rec._services.model_cache.get_loaded("m")
    assert recommender is not None
    return recommender.attributes


async def test_a_trained_model_knows_the_attributes_of_its_items(shop: RecServer) -> None:
    ended = await run(shop)
    assert (ended.outcome, ended.error) == ("completed", None)
    found = require_attributes(attributes(shop))
    assert found.names == ("title", "genre")
    assert found.mask(parse_condition("genre=Sci-Fi")).tolist() == [False, True, False, False, False]
    assert found.item_values(1) == {"title": "Alien", "genre": ["Horror", "Sci-Fi"]}
    info = await shop.get_model_info("m")
    assert info["final_stats"]["has_item_features"] is info["model_metrics"]["has_item_features"] is True
    assert info["final_stats"]["has_user_features"] is False
    assert ended.data_report is not None
    assert ended.data_report["item_features"] == {
        "rows_read": 4, "rows_kept": 4, "rejected": {}, "examples": {}, "n_items": 3,
        "attributes": {"title": "text", "genre": "text"},
    }  # fmt: skip
    metadata = json.loads((shop.data_dir / "models/m_metadata.json").read_text())
    assert metadata["data_report"] == ended.data_report


async def test_only_changed_attributes_make_another_version(shop: RecServer) -> None:
    assert (await run(shop)).model_version == 1
    assert (await again(shop)).outcome == "unchanged"
    write(shop, "films.csv", FILMS.replace("Drama", "Crime"))
    with shop.events.listen() as events:
        ended = await events.next(RunEnded, lambda one: one.outcome != "unchanged")
    assert (ended.outcome, ended.model_version) == ("completed", 2)
    assert require_attributes(attributes(shop)).item_values(2)["genre"] == ["Crime"]


async def test_removing_item_features_from_a_task(shop: RecServer) -> None:
    await run(shop)
    with shop.events.listen() as events:
        await shop.add_model_task("t", model_id="m", data_chef_id="c", interval=1, overwrite=True)
        ended = await events.next(RunEnded, lambda one: one.outcome == "completed")
    assert ended.data_report is not None and "item_features" not in ended.data_report
    assert attributes(shop) is None
    assert (await shop.get_model_info("m"))["final_stats"]["has_item_features"] is False


async def test_item_features_that_cannot_be_read_fail_the_training(shop: RecServer) -> None:
    assert (await run(shop)).outcome == "completed"
    (shop.data_dir / "films.csv").unlink()
    ended = await again(shop)
    assert ended.outcome == "failed"
    assert str(ended.error).startswith("The item features (data chef 'films') cannot be used: ")
    assert (await shop.list_tasks())["t"]["last_error"] == ended.error
    assert (await shop.get_model_info("m"))["error"] == ended.error
    assert require_attributes(attributes(shop)).names == ("title", "genre")  # what served goes on


async def test_a_missing_chef_of_item_features_skips_the_run(shop: RecServer) -> None:
    await run(shop)
    affected = await shop.delete_data_chef("films")
    assert affected["tasks_affected"] == ["t"]
    with shop.events.listen() as events:
        await shop.update_task_interval("t", interval=1)
        skipped = await events.next(RunSkipped)
    assert "Data chef 'films' does not exist" in skipped.reason
    assert "Data chef 'films' does not exist" in (await shop.list_tasks())["t"]["last_error"]


async def test_correcting_item_features_lets_a_new_model_train_at_once(shop: RecServer) -> None:
    await shop.create_data_chef_from_csv("films", file_path="films.csv", overwrite=True)
    failed = await run(shop)
    assert failed.outcome == "failed" and "There is no column item_id" in str(failed.error)
    with shop.events.listen() as events:
        await shop.create_data_chef_from_csv(
            "films", file_path="films.csv", rename_columns="movieId->item_id", overwrite=True
        )
        assert (await events.next(RunEnded)).outcome == "completed"


async def test_only_user_features_get_a_warning(shop: RecServer) -> None:
    task = {"model_id": "m", "data_chef_id": "c", "interval": 3600, "enabled": False}
    assert "warnings" not in await shop.add_model_task("one", **task, item_features_data_chef_id="films")
    (warning,) = (await shop.add_model_task("two", **task, user_features_data_chef_id="films"))["warnings"]
    assert warning.startswith("The data chef of user features is stored but not read yet")


@pytest.fixture
async def rows_over_http() -> AsyncIterator[tuple[list[int], str]]:
    """A source of interactions that never change and says so, and the statuses that it answered with."""
    answered: list[int] = []

    async def interactions(request: web.Request) -> web.Response:
        status = 304 if request.headers.get("If-None-Match") == '"v1"' else 200
        answered.append(status)
        if status == 304:
            return web.Response(status=304)
        rows = [{"user_id": f"u{n}", "item_id": f"i{(n + m) % 4}"} for n in range(6) for m in range(2)]
        return web.json_response(rows, headers={"ETag": '"v1"'})

    app = web.Application()
    app.router.add_get("/interactions", interactions)
    async with TestServer(app) as server:
        yield answered, str(server.make_url("/interactions"))


async def test_unchanged_interactions_do_not_hide_changed_attributes(
    shop: RecServer, rows_over_http: tuple[list[int], str]
) -> None:
    answered, url = rows_over_http
    await shop.create_data_chef_from_api("c", url=url, overwrite=True)
    assert (await run(shop, item_features_data_chef_id=None)).model_version == 1
    assert (await again(shop)).outcome == "unchanged"
    assert answered == [200, 304]
    with shop.events.listen() as events:
        await shop.add_model_task(
            "t", model_id="m", data_chef_id="c", interval=1, item_features_data_chef_id="films", overwrite=True
        )
        ended = await events.next(RunEnded, lambda one: one.outcome != "unchanged")
        assert (ended.outcome, ended.model_version) == ("completed", 2)
        write(shop, "films.csv", FILMS.replace("Drama", "Crime"))
        ended = await events.next(RunEnded, lambda one: one.outcome != "unchanged")
        assert (ended.outcome, ended.model_version) == ("completed", 3)
    assert require_attributes(attributes(shop)).item_values(2)["genre"] == ["Crime"]
