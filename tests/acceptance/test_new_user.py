"""A new user with a wrong mapping finds the right one in what the server says."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from recserver import RecServer
from recserver.events import RunEnded

START = "With all of that it is rename_columns: "


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
    model = {"model_id": "films", "algorithm": "nmf", "hyperparameters": {"n_components": 4, "max_iter": 10}}
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
