"""Read-only servers: they refuse to change anything, answer everything else, and follow the writer."""

from __future__ import annotations

import asyncio
from asyncio import iscoroutinefunction
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver._internal.core.errors import ReadOnly, RecServerError
from recserver._internal.core.events import ModelServes, RunEnded
from recserver._internal.server.http.routes import PREFIXES, ROUTES, Route
from recserver._internal.server.service import Service
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api, Serve

pytestmark = pytest.mark.slow

LOOKS = {
    "recommend", "recommend_batch", "session_recommend", "rank", "similar_items", "popular_items",
    "validate_data_chef", "export_recommendations",
}  # fmt: skip
"""Verbs that change nothing in the folder, or need not, and have other methods than GET all the same."""

ADDRESSES = [(prefix, route) for prefix in PREFIXES for route in ROUTES]


def changes(route: Route) -> bool:
    """Whether a route is there to change something. A new one is taken for such unless it is a GET."""
    return route.method != "GET" and route.operation not in LOOKS


@pytest.fixture
async def reader(serve: Serve, trained: Api, settings: Settings) -> Api:
    """A client of a read-only server, beside the one that trained m and holds its folder open."""
    settings = settings.model_copy(update={"read_only": True})
    return await serve(RecServer(trained.rec.data_dir, settings, executor=ScriptedExecutor()))


async def test_only_changes_are_rejected(
    reader: Api, snapshot: Callable[[], dict[str, bytes]], subtests: pytest.Subtests
) -> None:
    before = snapshot()
    for prefix, route in ADDRESSES:
        path = prefix + route.path.format(model_id="m", data_chef_id="c", user_id="u0", n="5", run_id="r")
        with subtests.test(method=route.method, path=path):
            answer = await reader.ask(route.method, path)
            if changes(route):
                assert (answer.status, answer.code) == (409, "read_only")
                assert "start this one without --read-only" in answer.body["detail"]
            else:
                assert answer.status in (200, 404, 422) and answer.code != "read_only", answer.body
            assert snapshot() == before


@pytest.mark.parametrize("dry_run", ["dry_run=true", "dry_run=1"])
async def test_a_dry_run_of_a_deletion_is_allowed(
    reader: Api, trained: Api, snapshot: Callable[[], dict[str, bytes]], dry_run: str
) -> None:
    before, path = snapshot(), f"/delete_model/m?{dry_run}"
    preview = await reader.ok("DELETE", path)
    assert (preview["status"], preview["files_deleted"][0]) == ("dry_run", "models/m_config.json")
    assert preview == await trained.ok("DELETE", path)
    assert snapshot() == before


@pytest.mark.parametrize("dry_run", ["dry_run=false", "dry_run=perhaps", "force=true"])
async def test_other_deletions_are_rejected(reader: Api, dry_run: str) -> None:
    answer = await reader.ask("DELETE", f"/delete_model/m?{dry_run}")
    assert (answer.status, answer.code) == (409, "read_only")


async def test_the_library_rejects_the_same(reader: Api, trained: Api, subtests: pytest.Subtests) -> None:
    for name in sorted({route.operation for route in ROUTES if changes(route)}):
        with subtests.test(name):
            operation: Callable[..., Awaitable[Any]] = getattr(reader.rec, name)
            with pytest.raises(ReadOnly, match="is read-only"):
                await operation()
            try:  # the same call means something to a server that writes
                await getattr(trained.rec, name)()
            except RecServerError as error:
                assert not isinstance(error, ReadOnly)


def test_every_public_operation_has_a_route() -> None:
    operations = {name for name in dir(Service) if name[0] != "_" and iscoroutinefunction(getattr(Service, name))}
    assert operations == {route.operation for route in ROUTES}


async def test_responses_equal_those_of_the_writer(reader: Api, trained: Api) -> None:
    path = "/recommend/u0/m/5"
    mine, theirs = await reader.ok("GET", path), await trained.ok("GET", path)
    assert mine["source"] == "personal"
    assert mine | {"datetime": ""} == theirs | {"datetime": ""}
    for path in ("/list_models", "/get_model_info/m", "/list_data_chefs", "/list_runs"):
        assert await reader.ok("GET", path) == await trained.ok("GET", path), path


async def test_health_reports_read_only(reader: Api, trained: Api) -> None:
    assert await reader.ok("GET", "/health") == {"status": "ok", "read_only": True}
    assert (await reader.ok("GET", "/get_scheduler_status"))["data"] == {"is_running": False, "status": "stopped"}
    mine, theirs = await reader.ok("GET", "/list_tasks"), await trained.ok("GET", "/list_tasks")
    assert theirs["t"]["next_run_at"] is not None
    assert mine == {"t": theirs["t"] | {"next_run_at": None}}
    assert mine["t"]["last_status"] == "completed"


async def test_a_new_version_is_loaded(reader: Api, trained: Api, trainings: ScriptedExecutor) -> None:
    assert (await reader.ok("GET", "/recommend/u0/m"))["model_version"] == 1
    with reader.rec.events.listen() as mine, trained.rec.events.listen() as theirs:
        await trained.ok("POST", "/run_task", {"task_name": "t"})
        (await trainings.next()).finish()
        assert (await theirs.next(RunEnded)).model_version == 2
        async with asyncio.timeout(20):
            assert await mine.next(ModelServes) == ModelServes("m", 2)
    assert (await reader.ok("GET", "/recommend/u0/m"))["model_version"] == 2


async def test_changes_of_the_writer_are_followed(reader: Api, trained: Api, trainings: ScriptedExecutor) -> None:
    await trained.ok("POST", "/create_model", {"model_id": "new", "algorithm": "nmf"})
    task = {"task_name": "new", "model_id": "new", "data_chef_id": "c", "interval": 60}
    with trained.rec.events.listen() as events:
        await trained.ok("POST", "/add_model_task", task)
        assert (await reader.get("/recommend/u0/new")).code == "model_not_trained"
        (await trainings.next()).finish()
        await events.next(RunEnded)
    assert (await reader.ok("GET", "/recommend/u0/new"))["model_version"] == 1
    await trained.ok("DELETE", "/remove_model_task", {"task_name": "new"})
    assert set(await reader.ok("GET", "/list_tasks")) == {"t"}


async def test_a_folder_of_files_alone_is_served(serve: Serve, tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/t.json").write_text('{"model_id": "m", "interactions_data_chef_id": "c", "interval": 60}')
    settings = settings.model_copy(update={"read_only": True})
    api = await serve(RecServer(tmp_path, settings, executor=ScriptedExecutor()))
    assert set(await api.ok("GET", "/list_tasks")) == {"t"}
    for path in ("/list_models", "/list_data_chefs"):
        assert await api.ok("GET", path) == {}
    assert await api.ok("GET", "/list_runs") == {"data": []}
    assert [one.name for one in tmp_path.rglob("*")] == ["tasks", "t.json"]
