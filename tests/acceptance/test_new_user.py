"""The suggestions lead a new user from a wrong mapping to the right one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from recserver import RecServer
from recserver._internal.core.events import RunEnded
from tests.helpers.hyperparameters import QUICK_NMF

START = "Corrected rename_columns: "


@pytest.fixture
async def http(rec: RecServer) -> AsyncIterator[ClientSession]:
    """A client of the server."""
    async with rec.serve() as url, ClientSession(url) as session:
        yield session


async def call(http: ClientSession, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """The answer to one request that must succeed."""
    async with http.request(method, path, json=body) as response:
        answer: dict[str, Any] = await response.json()
    assert response.status == 200, answer
    return answer


@pytest.mark.parametrize("wrong", ["", "userid->user_id,movie->item_id", "userId->user,movieId->item"])
async def test_a_wrong_mapping_is_put_right_by_the_words_of_the_preview_alone(
    rec: RecServer, http: ClientSession, test_data: Path, wrong: str
) -> None:
    shutil.copy(test_data / "ml-latest-small" / "ratings.csv", rec.data_dir / "ratings.csv")
    chef = {"data_chef_id": "ratings", "file_path": "ratings.csv", "rename_columns": wrong, "overwrite": True}
    await call(http, "POST", "/create_data_chef_from_csv", chef)
    model = {"model_id": "films", "algorithm": "nmf", "hyperparameters": QUICK_NMF}
    await call(http, "POST", "/create_model", model)
    task = {"task_name": "train", "model_id": "films", "data_chef_id": "ratings", "interval": 3600}
    with rec.events.listen() as events:
        await call(http, "POST", "/add_model_task", task)
        failed = await events.next(RunEnded)
        assert failed.outcome == "failed" and START in str(failed.error)

        seen = await call(http, "GET", "/preview_data_chef?data_chef_id=ratings&rows=3")
        (text,) = (one.removeprefix(START) for one in seen["suggestions"] if one.startswith(START))
        asked = {**chef, "type": "csv", "rename_columns": text}
        checked = await call(http, "POST", "/validate_data_chef", asked)
        assert (checked["suggestions"], checked["rejected"]) == ([], {})

        await call(http, "POST", "/create_data_chef_from_csv", {**chef, "rename_columns": text})
        ended = await events.next(RunEnded)  # correcting the chef runs the task again
        assert (ended.outcome, ended.error) == ("completed", None)
    seen = await call(http, "GET", "/preview_data_chef/ratings?rows=1")
    assert [set(row) for row in seen["renamed"]] == [{"user_id", "item_id", "rating", "timestamp"}]
    answer = await call(http, "GET", "/recommend/1/films/3")
    assert (answer["source"], answer["n_recommendations"]) == ("personal", 3)


def advised(seen: dict[str, Any], start: str) -> str:
    """What stands behind ``start`` in the one suggestion that has it, as it would be copied."""
    (text,) = (one.partition(start)[2] for one in seen["suggestions"] if start in one)
    return text.removesuffix(".")


async def preview_of(http: ClientSession, kind: str, **chef: Any) -> dict[str, Any]:
    """Create a data chef, or create it anew, and look at its source."""
    body = {"data_chef_id": "c", "overwrite": True, **chef}
    await call(http, "POST", f"/create_data_chef_from_{kind}", body)
    return await call(http, "GET", "/preview_data_chef/c")


async def test_an_answer_that_wraps_its_rows_is_unwrapped_by_the_words_alone(http: ClientSession) -> None:
    async def answer(_: web.Request) -> web.Response:
        rows = [{"customer": n, "sku": f"s{n % 3}", "stars": n % 5} for n in range(9)]
        return web.json_response({"status": "ok", "payload": {"list": rows}})

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as source:
        chef = {"url": str(source.make_url("/"))}
        chef["data_selector"] = advised(await preview_of(http, "api", **chef), "add data_selector: ")
        seen = await preview_of(http, "api", **chef)
        chef["rename_columns"] = advised(seen, "With stars as the rating, rename_columns: ")
        seen = await preview_of(http, "api", **chef)
    assert (seen["rows_read"], seen["rejected"], seen["suggestions"]) == (9, {}, [])
    assert seen["renamed"][1] == {"user_id": "1", "item_id": "s1", "rating": 1}


async def test_a_file_of_another_delimiter_without_a_header_is_read_by_the_words_alone(
    rec: RecServer, http: ClientSession
) -> None:
    file = rec.data_dir / "orders.csv"
    file.write_text("ann^espresso^5\nbob^tea^4\n")
    mark = advised(await preview_of(http, "csv", file_path="orders.csv"), "give its delimiter, probably ").strip(
        "'"
    )
    chef = {"file_path": "orders.csv", "delimiter": mark}
    header = advised(await preview_of(http, "csv", **chef), "add a header line, such as ")
    file.write_text(f"{header}\n{file.read_text()}")
    seen = await preview_of(http, "csv", **chef)
    assert seen["renamed"] == [
        {"user_id": "ann", "item_id": "espresso", "rating": 5}, {"user_id": "bob", "item_id": "tea", "rating": 4},
    ]  # fmt: skip
    assert (seen["rejected"], seen["suggestions"]) == ({}, [])


async def test_a_misspelt_key_is_corrected_by_the_words_alone(rec: RecServer, http: ClientSession) -> None:
    (rec.data_dir / "orders.csv").write_text("user_id,item_id,kind,at\nann,tea,view,2026-01-02\n")
    chef: dict[str, Any] = {
        "file_path": "orders.csv", "event_column": "knd", "event_weights": {"view": 2}, "timestamp_column": "aat",
    }  # fmt: skip
    seen = await preview_of(http, "csv", **chef)
    assert seen["rejected"] == {}
    for key in ("event_column", "timestamp_column"):
        chef[key] = advised(seen, f"correct {key} to ")
    seen = await preview_of(http, "csv", **chef)
    assert (seen["rejected"], seen["suggestions"]) == ({}, [])
    assert seen["renamed"][0]["rating"] == 2
