"""Read-only servers in separate processes: they change no file in the folder, and follow its writer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from recserver import RecServer, Settings
from recserver.testing import ScriptedExecutor
from tests.helpers.server_process import PLUGINS, a_server, eventually, get, post, prepare

pytestmark = pytest.mark.process

Traces = dict[str, tuple[int, int, int, bytes]]


@pytest.fixture(autouse=True)
def plugins_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test plug-ins are on the path of this process too."""
    monkeypatch.syspath_prepend(PLUGINS)


def traces(data_dir: Path) -> Traces:
    """Everything in a folder, itself included: mode, time of the last change, inode and bytes."""
    found = {}
    for path in [data_dir, *data_dir.rglob("*")]:
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(data_dir))] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


async def two_runs(http: ClientSession) -> None:
    """Return once task t0 ran twice, and both runs stand in the history."""

    async def ran(times: int) -> bool:
        runs = (await get(http, "/list_runs"))["data"]
        return [run["outcome"] for run in runs] == ["completed"] * times

    await eventually(lambda: ran(1))
    await post(http, "/run_task", task_name="t0")
    await eventually(lambda: ran(2))


@pytest.fixture(params=["that lives", "that was killed", "that was killed in mid training", "that was closed"])
async def folder(request: pytest.FixtureRequest, data_dir: Path, settings: Settings) -> AsyncIterator[Path]:
    """A folder with a model trained twice, that has, or had, a writer."""
    prepare(data_dir, 1, interval=3600)
    async with a_server(data_dir) as (server, http):
        await two_runs(http)
        if request.param == "that was killed in mid training":
            chef = data_dir / "config/restaurant_data.yaml"
            chef.write_text(chef.read_text().replace("0.02", "600"))
            run = await post(http, "/run_task", task_name="t0")
            await get(http, f"/get_run/{run['run_id']}")  # it stands in the history once this is answered
        if request.param != "that lives":
            server.kill()
            await server.wait()
        if request.param == "that was closed":
            async with RecServer(data_dir, settings, executor=ScriptedExecutor()):
                pass
        assert (data_dir / "history.db-wal").exists() == (request.param != "that was closed")
        (data_dir / "models/.m0.pkl.0123456789ab.tmp").write_text("what a writer that opens would remove")
        yield data_dir


async def test_a_read_only_server_changes_no_file(folder: Path) -> None:
    for one in (folder, *folder.rglob("*/")):
        one.chmod(0o555)  # root is not held up by that, so the traces are looked at all the same
    before = traces(folder)
    config = json.loads((folder / "models/m0_config.json").read_text())
    async with a_server(folder, RECSERVER_READ_ONLY="true") as (_, http):
        assert (await get(http, "/recommend/u0/m0"))["model_version"] == 2
        assert (await get(http, "/get_model_info/m0"))["status"] == config["status"]
        assert (await get(http, "/list_tasks"))["t0"]["next_run_at"] is None
        runs = (await get(http, "/list_runs?outcome=completed"))["data"]
        assert [run["model_version"] for run in runs] == [2, 1]
        assert (await get(http, f"/get_run/{runs[0]['run_id']}"))["stages"]
        async with http.post("/run_task", json={"task_name": "t0"}) as response:
            assert (response.status, (await response.json())["code"]) == (409, "read_only")
        assert traces(folder) == before
    assert traces(folder) == before


async def until(stream: ClientResponse, name: str) -> dict[str, Any]:
    """The content of the next event of one name."""
    async for line in stream.content:
        if line.decode().strip() == f"event: {name}":
            content: dict[str, Any] = json.loads((await stream.content.readline()).decode().partition(": ")[2])
            return content
    raise AssertionError(f"the stream ended without {name}")


async def test_new_versions_of_the_writer_are_served(data_dir: Path) -> None:
    prepare(data_dir, 1, interval=3600)
    async with a_server(data_dir) as (_, writer), a_server(data_dir, RECSERVER_READ_ONLY="1") as (_, reader):
        await two_runs(writer)
        assert (await get(reader, "/recommend/u0/m0"))["model_version"] == 2
        async with writer.get("/events") as theirs, reader.get("/events") as mine:
            for version in range(3, 6):
                await post(writer, "/run_task", task_name="t0")
                assert (await until(theirs, "model_serves"))["model_version"] == version
                async with asyncio.timeout(20):
                    assert await until(mine, "model_serves") == {"model_id": "m0", "model_version": version}
                assert (await get(reader, "/recommend/u0/m0"))["model_version"] == version
                await until(theirs, "run_ended")

        async def told() -> bool:
            task = (await get(reader, "/list_tasks"))["t0"]
            return (task["last_status"], task["runs"]) == ("completed", 5)

        await eventually(told, 3)
