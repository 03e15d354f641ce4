"""``POST /export_recommendations``: what it writes, tells and refuses; nothing is left of what ends early."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from recserver import RecServer, Settings
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api, Serve
from tests.helpers.exported import in_file, put_crowd
from tests.helpers.film_models import USERS
from tests.helpers.model_files import put_model
from tests.helpers.pids import ended

pytestmark = pytest.mark.process

PATH = "/export_recommendations"
CROWD = {"model_id": "crowd", "file": "top.jsonl", "n": 1}
SMALL = {"model_id": "m", "file": "top.jsonl"}


@pytest.fixture(scope="module")
def crowd_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of so many users that an export takes seconds, and a small one called m."""
    models = tmp_path_factory.mktemp("crowd")
    put_crowd(models, 400_000)
    put_model(models, "m")
    return models


@pytest.fixture
async def crowd(data_dir: Path, settings: Settings, serve: Serve, crowd_files: Path) -> Api:
    """A client of a server with real workers and that model, and a small one called m."""
    await asyncio.to_thread(copytree, crowd_files, data_dir / "models")
    return await serve(RecServer(data_dir, settings))


def left_of(api: Api) -> list[str]:
    return sorted(path.name for path in (api.rec.data_dir / "exports").iterdir())


async def all_ended(api: Api) -> None:
    """Return once no export is under way."""
    while busy := api.rec._services.exporter.running:
        await asyncio.wait(busy)


class Following:
    """A client that reads an export's lines one by one."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response

    async def line(self) -> dict[str, Any]:
        return dict(json.loads(await self._response.content.readline()))

    async def last(self) -> dict[str, Any]:
        """The last line of the answer, which must end as an answer does."""
        return dict(json.loads((await self._response.read()).splitlines()[-1]))

    def leave(self) -> None:
        self._response.close()


@asynccontextmanager
async def following(api: Api, body: object) -> AsyncIterator[Following]:
    async with ClientSession() as session, session.post(api.url + PATH, json=body) as response:
        assert response.status == 200, await response.read()
        yield Following(response)


async def test_exports_equal_recommend(films: Api) -> None:
    options = {"n": 3, "filter": "price<12", "boost": "genre=Horror*2", "exclude": ["jaws"], "max_per": "genre:2"}
    lines = await films.lines(PATH, {"model_id": "films", "file": "top.parquet", **options})
    rows = in_file(films.rec.data_dir / "exports" / "top.parquet", "films")
    expected = []
    for user in sorted(USERS, key=str.encode):
        alone = await films.ok("POST", "/recommend", {"model_id": "films", "user_id": user, **options})
        items = alone["predictions"][user]
        expected += [(user, rank, one["item_id"], one["score"]) for rank, one in enumerate(items, 1)]
    assert rows == expected and len(rows) > 10
    assert all(line == {"status": "running", "users_done": 0, "users": 10} for line in lines[:-1])
    assert lines[-1].pop("seconds") >= 0
    assert lines[-1] == {
        "status": "completed", "model_id": "films", "file": "exports/top.parquet", "model_version": 1, "users": 10,
        "rows": len(rows),
    }  # fmt: skip
    assert left_of(films) == ["top.parquet"]


async def test_a_table_of_the_default_database(films: Api) -> None:
    for _ in range(2):
        lines = await films.lines(PATH, {"model_id": "films", "table": "top", "n": 1})
        assert (lines[-1]["status"], lines[-1]["table"]) == ("completed", "top"), lines
    with closing(sqlite3.connect(films.rec.data_dir / "interactions.db")) as connection:
        rows = connection.execute("SELECT user_id, rank, item_id, score FROM top").fetchall()
    await films.lines(PATH, {"model_id": "films", "file": "top.csv", "n": 1})
    assert rows == in_file(films.rec.data_dir / "exports" / "top.csv", "films")


@pytest.mark.parametrize("path", [PATH, "/recommend_batch"])
async def test_an_unknown_field_is_listed_in_every_line(films: Api, path: str) -> None:
    what = {"file": "top.csv"} if path == PATH else {"user_ids": ["ann", "bob"]}
    for line in await films.lines(path, {"model_id": "films", "filtr": "price<1", **what}):
        assert line["warnings"] == ["The field 'filtr' is unknown and was ignored."]


INVALID_EXPORTS: list[tuple[str | None, dict[str, Any], int, str, str | None]] = [
    ("x", {"file": "a.csv"}, 404, "model_not_found", None),
    ("new", {"file": "a.csv"}, 409, "model_not_trained", None),
    (None, {"file": "a.csv"}, 422, "validation_error", "model_id"),
    ("films", {}, 422, "validation_error", "file"),
    ("films", {"file": "a.csv", "table": "top"}, 422, "validation_error", "file"),
    ("films", {"file": "a.csv", "database": "sqlite:///a.db"}, 422, "validation_error", "database"),
    ("films", {"file": "../a.csv"}, 422, "validation_error", "file"),
    ("films", {"file": "a.txt"}, 422, "validation_error", "file"),
    ("films", {"table": "a b"}, 422, "validation_error", "table"),
    ("films", {"file": "a.csv", "filter": "year=1"}, 422, "validation_error", "filter"),
    ("films", {"file": "a.csv", "max_per": "year:1"}, 422, "validation_error", "max_per"),
    ("films", {"file": "a.csv", "n": 0}, 422, "validation_error", "n"),
    ("films", {"table": "t", "database": "sqlite:////etc/x.db"}, 422, "validation_error", "database"),
    ("films", {"table": "t", "database": "sqlite:///models/x.db"}, 422, "validation_error", "database"),
    ("films", {"table": "t", "database": "sqlite:///${NO_DB}"}, 422, "validation_error", "database"),
    ("films", {"table": "t", "database": "sqlite:///wrong.db"}, 422, "export_failed", None),
    ("films", {"table": "t", "database": "mysql://u:s3cr3t@127.0.0.1:1/x"}, 422, "export_failed", None),
]


async def test_invalid_exports_are_rejected_before_the_first_line(films: Api, subtests: pytest.Subtests) -> None:
    data = films.rec.data_dir
    (data / "models" / "new_config.json").write_text('{"algorithm": "nmf"}')
    with closing(sqlite3.connect(data / "wrong.db")) as connection:
        connection.execute("CREATE TABLE t (model_id TEXT)")
    before = {path.relative_to(data) for path in data.rglob("*")} | {Path("exports")}
    for model_id, body, status, code, loc in INVALID_EXPORTS:
        with subtests.test(model_id=model_id, body=body):
            answer = await films.post(PATH, {"model_id": model_id, **body})
            assert (answer.status, answer.code) == (status, code), answer.body
            if status == 422:
                assert answer.locs == [["body", loc] if loc else ["body"]]
                assert "s3cr3t" not in answer.body["detail"]
            assert {path.relative_to(data) for path in data.rglob("*")} <= before


async def test_a_file_is_replaced_atomically(films: Api) -> None:
    path = films.rec.data_dir / "exports" / "top.csv"
    path.parent.mkdir()
    path.write_text("before")
    answer = await films.post(PATH, {"model_id": "films", "file": "top.csv", "filter": "year=1"})
    assert answer.status == 422 and path.read_text() == "before"
    await films.lines(PATH, {"model_id": "films", "file": "top.csv"})
    assert len(in_file(path, "films")) > 10


async def test_progress_is_streamed(crowd: Api) -> None:
    async with following(crowd, CROWD) as client:
        first, second = await client.line(), await client.line()
        assert first == {"status": "running", "users_done": 0, "users": 400_000}
        assert second["status"] == "running" and 0 < second["users_done"] < 400_000


@pytest.mark.slow
async def test_a_client_that_disconnects_cancels_its_export(crowd: Api) -> None:
    async with following(crowd, CROWD) as client:
        await client.line()
        assert len(left_of(crowd)) == 1
        (pid,) = crowd.rec._services.executor.pids  # type: ignore[attr-defined]
        client.leave()
    await ended(pid, 20)
    await all_ended(crowd)
    assert left_of(crowd) == []
    assert (await crowd.lines(PATH, SMALL))[-1]["status"] == "completed"


@pytest.mark.slow
async def test_concurrent_exports_to_one_target_are_rejected(crowd: Api) -> None:
    async with following(crowd, CROWD) as client:
        for name in ("top.jsonl", "TOP.jsonl"):
            answer = await crowd.post(PATH, SMALL | {"file": name})
            assert (answer.status, answer.code) == (409, "export_under_way")
        assert (await crowd.lines(PATH, SMALL | {"file": "other.csv"}))[-1]["status"] == "completed"
        assert (await client.line())["status"] == "running"
        client.leave()
    await all_ended(crowd)
    assert (await crowd.lines(PATH, SMALL))[-1]["status"] == "completed"
    assert left_of(crowd) == ["other.csv", "top.jsonl"]


async def test_a_dead_worker_is_reported_in_the_last_line(crowd: Api) -> None:
    async with following(crowd, CROWD) as client:
        await client.line()
        os.kill(crowd.rec._services.executor.pids[0], signal.SIGKILL)  # type: ignore[attr-defined]
        last = await client.last()
    assert (last["status"], last["code"], last["file"]) == ("failed", "export_failed", "exports/top.jsonl")
    assert "killed by signal 9" in last["error"] and left_of(crowd) == []


async def test_closing_the_server_cancels_exports(data_dir: Path, settings: Settings, crowd_files: Path) -> None:
    await asyncio.to_thread(copytree, crowd_files, data_dir / "models")
    server = RecServer(data_dir, settings)
    async with ClientSession() as session:
        async with server.serve() as url:
            response = await session.post(url + PATH, json=CROWD)
            first = json.loads(await response.content.readline())
            assert first["status"] == "running"
        last = json.loads((await response.read()).splitlines()[-1])
    assert (last["status"], last["code"]) == ("failed", "draining")
    assert list((data_dir / "exports").iterdir()) == []


async def test_files_of_a_killed_server_are_removed(data_dir: Path, settings: Settings) -> None:
    (data_dir / "exports").mkdir(parents=True)
    (data_dir / "exports" / ".top.csv.0123456789ab.tmp").write_text("half")
    (data_dir / "exports" / "top.csv").write_text("whole")
    async with RecServer(data_dir, settings):
        assert [path.name for path in (data_dir / "exports").iterdir()] == ["top.csv"]


async def test_a_read_only_server_writes_nothing_in_its_folder(
    films: Api, serve: Serve, settings: Settings, tmp_path: Path
) -> None:
    read_only = {"read_only": True, "default_database": f"sqlite:///{tmp_path}/far.db"}
    reader = await serve(
        RecServer(films.rec.data_dir, settings.model_copy(update=read_only), executor=ScriptedExecutor())
    )
    for target in ({"file": "top.csv"}, {"table": "t", "database": "sqlite:///x.db"}):
        answer = await reader.post(PATH, {"model_id": "films", **target})
        assert (answer.status, answer.code) == (409, "read_only")
    assert not (films.rec.data_dir / "exports").exists()
    lines = await reader.lines(PATH, {"model_id": "films", "table": "top", "n": 1})
    assert lines[-1]["status"] == "completed" and (tmp_path / "far.db").exists()


async def test_as_a_library(films: Api) -> None:
    lines = [one async for one in await films.rec.export_recommendations(model_id="films", file="top.csv.gz")]
    assert lines[-1]["status"] == "completed"
    assert len(in_file(films.rec.data_dir / "exports" / "top.csv.gz", "films")) == lines[-1]["rows"]


async def test_closing_the_generator_cancels_the_export(crowd: Api) -> None:
    answer = await crowd.rec.export_recommendations(**CROWD)
    assert (await anext(answer))["status"] == "running"
    await answer.aclose()
    assert crowd.rec._services.exporter.running == [] and left_of(crowd) == []
    assert crowd.rec._services.executor.pids == []  # type: ignore[attr-defined]
