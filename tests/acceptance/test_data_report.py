"""Data reports are shown wherever a run is shown; and an unchanged source is not read again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from recserver import RecServer
from recserver._internal.core.events import RunEnded

ROWS = "user_id,item_id,rating\nann,tea,5\nann,scone,3\nbob,tea,4\n,tea,1\nbob,,2\nbob,,2\nann,tea,1\n"
REJECTED = {"user_id is empty": 1, "item_id is empty": 2}
EXAMPLES = {
    "user_id is empty": "user_id='', item_id='tea', rating='1'",
    "item_id is empty": "user_id='bob', item_id='', rating='2'",
}


async def run(rec: RecServer, **task: Any) -> RunEnded:
    """Add (or replace) task ``t`` and wait for its run to end."""
    with rec.events.listen() as events:
        await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=3600, overwrite=True, **task)
        return await events.next(RunEnded)


async def test_a_completed_run_has_a_data_report(rec: RecServer) -> None:
    (rec.data_dir / "rows.csv").write_text(ROWS)
    await rec.create_model("m", algorithm="nmf", hyperparameters={"n_components": 2})
    await rec.create_data_chef_from_csv("c", file_path="rows.csv")
    ended = await run(rec)
    assert ended.outcome == "completed"
    report = dict(ended.data_report or {})
    assert set(report.pop("seconds")) == {"reading", "building", "evaluating", "fitting", "packing"}
    assert report == {
        "rows_read": 7, "rows_kept": 4, "rejected": REJECTED, "replaced": {}, "examples": EXAMPLES, "hints": [],
        "n_pairs": 3, "n_users": 2, "n_items": 2, "density": 0.75, "n_bytes": len(ROWS),
    }  # fmt: skip
    metadata = json.loads((rec.data_dir / "models/m_metadata.json").read_text())
    assert metadata["data_report"] == ended.data_report
    assert (await rec.list_tasks())["t"]["data_report"] == ended.data_report
    info = await rec.get_model_info("m")
    assert info["training_warnings"] == ["3 of 7 rows were left out (user_id is empty: 1, item_id is empty: 2)."]


@pytest.mark.parametrize(
    ("text", "rows_read", "rejected"),
    [("user_id,item_id\n,a\nu,\n", 2, {"user_id is empty": 1, "item_id is empty": 1}), ("who,what\na,b\n", 0, {})],
    ids=["all rows bad", "wrong columns"],
)
async def test_a_failed_run_has_a_data_report(
    rec: RecServer, text: str, rows_read: int, rejected: dict[str, int]
) -> None:
    (rec.data_dir / "rows.csv").write_text(text)
    await rec.create_model("m", algorithm="nmf")
    await rec.create_data_chef_from_csv("c", file_path="rows.csv")
    ended = await run(rec)
    assert (ended.outcome, ended.model_version) == ("failed", None)
    assert ended.data_report is not None
    assert (ended.data_report["rows_read"], ended.data_report["rejected"]) == (rows_read, rejected)
    assert (await rec.list_tasks())["t"]["data_report"] == ended.data_report


async def test_a_run_that_read_nothing_has_no_data_report(rec: RecServer) -> None:
    await rec.create_model("m", algorithm="nmf")
    await rec.create_data_chef_from_sql("c", query="SELECT 1", connection="postgresql://${UNSET_HOST}/d")
    ended = await run(rec)
    assert (ended.outcome, ended.data_report and ended.data_report["rows_read"]) == ("failed", 0)


@dataclass
class Shop:
    """A REST API with an ETag; counts what it answered."""

    version: int = 1
    answered: list[int] = field(default_factory=list)

    async def interactions(self, request: web.Request) -> web.Response:
        tag = f'"v{self.version}"'
        if request.headers.get("If-None-Match") == tag:
            self.answered.append(304)
            return web.Response(status=304, headers={"ETag": tag})
        self.answered.append(200)
        rows = [{"user_id": f"u{n}", "item_id": f"i{n * self.version % 3}"} for n in range(6)]
        return web.json_response(rows, headers={"ETag": tag})


@pytest.fixture
async def shop() -> AsyncIterator[tuple[Shop, str]]:
    shop, app = Shop(), web.Application()
    app.router.add_get("/interactions", shop.interactions)
    async with TestServer(app) as server:
        yield shop, str(server.make_url("/interactions"))


async def test_an_unchanged_source_is_not_read_again(rec: RecServer, shop: tuple[Shop, str]) -> None:
    source, url = shop
    await rec.create_model("m", algorithm="nmf", hyperparameters={"n_components": 2})
    await rec.create_data_chef_from_api("c", url=url)
    assert (await run(rec)).outcome == "completed"
    with rec.events.listen() as events:
        await rec.update_task_interval("t", interval=1)
        assert (await events.next(RunEnded)).outcome == "unchanged"
        assert source.answered == [200, 304]
        assert (await rec.get_model_info("m"))["status"] == "completed"
        source.version = 2
        changed = await events.next(RunEnded, lambda one: one.outcome != "unchanged")
    assert (changed.outcome, changed.model_version) == ("completed", 2)
    assert source.answered[-1] == 200


async def test_a_changed_definition_reads_an_unchanged_source_again(
    rec: RecServer, shop: tuple[Shop, str]
) -> None:
    source, url = shop
    await rec.create_model("m", algorithm="nmf", hyperparameters={"n_components": 2})
    await rec.create_data_chef_from_api("c", url=url)
    assert (await run(rec)).outcome == "completed"
    await rec.create_data_chef_from_api("c", url=url, constant_rating=2, overwrite=True)
    with rec.events.listen() as events:
        await rec.update_task_interval("t", interval=1)
        assert (await events.next(RunEnded)).model_version == 2
    assert source.answered == [200, 200]


async def test_invalid_ratings_are_reported(rec: RecServer) -> None:
    (rec.data_dir / "rows.csv").write_text("user_id;item_id;rating\nu;i;0,5\nu;j;2\nv;i;1,5\nv;j;\n")
    await rec.create_model("m", algorithm="nmf", hyperparameters={"n_components": 2})
    await rec.create_data_chef_from_csv("c", file_path="rows.csv")
    ended = await run(rec)
    assert ended.data_report is not None
    assert ended.data_report["replaced"] == {"rating is not a number": 2}
    assert ended.data_report["examples"] == {"rating is not a number": "rating='0,5'"}
    assert (await rec.get_model_info("m"))["training_warnings"] == [
        "In 2 of 4 rows the rating is not a number, such as rating='0,5': each counts 1."
    ]
