"""Real processes killed and stopped at random: no orphans, no stuck status, no mixed files, no failed requests."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver.testing import ScriptedExecutor
from tests.helpers.pids import children_of, ended
from tests.helpers.server_process import (
    PLUGINS,
    a_server,
    asking,
    eventually,
    get,
    lot,
    passing,
    post,
    prepare,
    versions,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see processes"),
]


@pytest.fixture(autouse=True)
def plugins_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test plug-ins are on the path of this process too."""
    monkeypatch.syspath_prepend(PLUGINS)


async def all_served(http: Any, models: int) -> None:
    """Return once every model has a version, and the training that made it has let go of the model."""

    async def there() -> bool:
        listed = await get(http, "/list_models")
        return len(listed) == models and all(one.get("model_version") for one in listed.values())

    async def let_go() -> bool:
        found = [await get(http, f"/get_training_status/m{number}") for number in range(models)]
        return all(one["data"]["run_id"] is None for one in found)

    await eventually(there)
    await eventually(let_go)


async def random_stops(data_dir: Path, times: int, chance: random.Random) -> None:
    prepare(data_dir, 1, pause=0.05, interval=3600)
    async with a_server(data_dir) as (server, http):
        await all_served(http, 1)
        models = data_dir / "models"
        async with asking(http, 1) as statuses:
            for _ in range(times):
                run = await post(http, "/run_task", task_name="t0")
                before = {path.name: path.read_bytes() for path in models.glob("m0[._][pm]*")}
                await passing(chance.uniform(0, 0.3))
                async with asyncio.timeout(20):
                    answer = await post(http, "/stop_training", model_id="m0")
                info = await get(http, "/get_model_info/m0")
                ended_as = (await get(http, f"/get_run/{run['run_id']}"))["outcome"]
                if answer["stopped_models"]:
                    assert (info["status"], ended_as) == ("stopped", "stopped")
                    now = {path.name: path.read_bytes() for path in models.glob("m0[._][pm]*")}
                    assert now == before
                    # The idle pool may keep workers, but none of them is this run's: that one was killed.
                    busy = (await get(http, "/get_training_status/m0"))["data"]
                    assert busy["run_id"] is None
                else:
                    assert (info["status"], ended_as) == ("completed", "completed")
                assert not list(models.glob(".*.tmp"))
                assert len(children_of(server.pid)) <= 2
        assert set(statuses) == {200} and len(statuses) > times
        assert (await get(http, "/list_runs?outcome=running"))["data"] == []
    assert len(set(versions(data_dir, "m0"))) == 1


async def random_worker_kills(data_dir: Path, times: int, chance: random.Random) -> None:
    prepare(data_dir, 2, pause=0.1, interval=3600)
    async with a_server(data_dir) as (server, http):
        await all_served(http, 2)
        async with asking(http, 2) as statuses:
            for _ in range(times):
                runs = [await post(http, "/run_task", task_name=f"t{number}") for number in range(2)]
                await passing(chance.uniform(0, 0.3))
                workers = sorted(children_of(server.pid))
                if workers:
                    victim = chance.choice(workers)
                    os.kill(victim, signal.SIGKILL)
                    await ended(victim)

                async def over(runs: list[Any] = runs) -> bool:
                    found = [await get(http, f"/get_run/{run['run_id']}") for run in runs]
                    return all(one["outcome"] != "running" for one in found)

                await eventually(over)
                outcomes = [await get(http, f"/get_run/{run['run_id']}") for run in runs]
                died = [one for one in outcomes if one["outcome"] != "completed"]
                assert len(died) <= 1, outcomes  # a dead worker costs one job
                assert all("killed by signal 9" in one["error"] for one in died)
            assert set(statuses) == {200} and len(statuses) > times
        for number in range(2):
            await eventually(lambda number=number: not_training(http, number))
        assert (await get(http, "/list_runs?outcome=running"))["data"] == []


async def not_training(http: Any, number: int) -> bool:
    return (await get(http, f"/get_model_info/m{number}"))["status"] not in ("training", "validating")


async def random_server_kills(data_dir: Path, times: int, chance: random.Random, settings: Settings) -> None:
    prepare(data_dir, 2, pause=0.05, interval=1)
    known = {f"m{number}": 0 for number in range(2)}
    for round_ in range(times):
        async with a_server(data_dir) as (server, http):
            if round_ == 0:
                await all_served(http, 2)
            async with asking(http, 2) as statuses:
                for number in range(2):
                    await eventually(lambda number=number: not_training(http, number))
                await passing(chance.uniform(0.2, 1.5))
                workers = children_of(server.pid)
                server.kill()
                await server.wait()
            for worker in workers:
                await ended(worker, 2)
            assert set(statuses) == {200}
        for model, earlier in known.items():
            packed, metadata, config = versions(data_dir, model)
            # The three are put in place one after the other: what comes later may be one version behind.
            assert packed and packed - 1 <= config <= metadata <= packed, (packed, metadata, config)
            assert packed >= earlier, "a version was lost"
            known[model] = packed
    for task in (data_dir / "tasks").iterdir():
        task.write_text(json.dumps(json.loads(task.read_text()) | {"enabled": False}))
    async with RecServer(data_dir, settings, executor=ScriptedExecutor()) as rec:
        for model, version in known.items():
            info = await rec.get_model_info(model)
            assert info["status"] in ("completed", "failed", "stopped"), info
            assert (await rec.recommend("u0", model_id=model))["model_version"] == version
        runs = (await rec.list_runs(limit=1000))["data"]
        assert runs and all(run["ended_at"] for run in runs if run["outcome"] != "running")
        assert [run for run in runs if run["outcome"] == "running"] == []
        tasks = await rec.list_tasks()
        assert not [task for task in tasks.values() if task["running"] or task["last_status"] == "training"]
        assert not [*data_dir.rglob(".*.tmp")]


@pytest.mark.timeout(120)
async def test_stops_at_random_points(data_dir: Path) -> None:
    await random_stops(data_dir, 6, lot())


@pytest.mark.timeout(120)
async def test_workers_killed_at_random_points(data_dir: Path) -> None:
    await random_worker_kills(data_dir, 3, lot())


@pytest.mark.timeout(120)
async def test_servers_killed_in_mid_training(data_dir: Path, settings: Settings) -> None:
    await random_server_kills(data_dir, 3, lot(), settings)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_two_hundred_stops(data_dir: Path) -> None:
    await random_stops(data_dir, 200, lot())


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_a_hundred_killed_workers(data_dir: Path) -> None:
    await random_worker_kills(data_dir, 100, lot())


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_fifty_killed_servers(data_dir: Path, settings: Settings) -> None:
    await random_server_kills(data_dir, 50, lot(), settings)
