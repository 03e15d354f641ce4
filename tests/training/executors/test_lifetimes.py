"""A server that is killed: nothing survives it, and the next one knows what it was doing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from recserver import RecServer, Settings
from recserver._internal.core.events import RunEnded, RunProgressed
from recserver.testing import ScriptedExecutor
from tests.helpers.pids import children_of, ended
from tests.helpers.worker_jobs import PLUGINS

pytestmark = pytest.mark.process

UNGUARDED = """
import asyncio, sys
from recserver import RecServer, Settings
from recserver._internal.core.events import RunEnded, RunProgressed

async def main():
    rec = RecServer(sys.argv[1], Settings(training_processes=1))
    with rec.events.listen() as events:
        async with rec:
            if sys.argv[2] == "reading":
                await events.next(RunProgressed, lambda event: event.rows_read)
            else:
                await events.next(RunEnded)
            print("ready", flush=True)
            await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


def prepare(data_dir: Path, steps: list[list[Any]]) -> None:
    """A data folder with model ``m``, data chef ``c`` that takes those steps, and task ``t``."""
    for name in ("models", "tasks", "config"):
        (data_dir / name).mkdir(parents=True, exist_ok=True)
    (data_dir / "models" / "m_config.json").write_text(json.dumps({"algorithm": "quick"}))
    (data_dir / "config" / "restaurant_data.yaml").write_text(
        yaml.safe_dump({"c": {"type": "steps", "steps": steps}})
    )
    task = {"model_id": "m", "interactions_data_chef_id": "c", "interval": 3600}
    (data_dir / "tasks" / "t.json").write_text(json.dumps(task))


@asynccontextmanager
async def a_server(
    data_dir: Path, until: str, steps: list[list[Any]]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server run by a script without a main guard, in which a first training came as far as ``until``."""
    prepare(data_dir, steps)
    script = data_dir.parent / "unguarded.py"
    script.write_text(UNGUARDED)
    path = os.pathsep.join([str(PLUGINS), *filter(None, sys.path)])
    server = await asyncio.create_subprocess_exec(
        sys.executable, script, data_dir, until, stdout=PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    try:
        assert server.stdout is not None
        assert await server.stdout.readline() == b"ready\n"
        yield server
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


@pytest.mark.parametrize("step", [["wait", "FIFO"], ["hold"]], ids=["waiting", "holding the interpreter's lock"])
async def test_no_training_survives_a_killed_server(data_dir: Path, fifo: Path, step: list[str]) -> None:
    steps = [["rows"], [str(fifo) if part == "FIFO" else part for part in step]]
    async with a_server(data_dir, "reading", steps) as server:
        (worker,) = children_of(server.pid)
        server.send_signal(signal.SIGKILL)
        await ended(worker)
    assert json.loads((data_dir / "models" / "m_config.json").read_text())["status"] == "training"


async def test_no_idle_worker_survives_a_killed_server(data_dir: Path) -> None:
    async with a_server(data_dir, "ended", [["rows"]]) as server:
        (worker,) = children_of(server.pid)
        server.send_signal(signal.SIGKILL)
        await ended(worker)
    assert json.loads((data_dir / "models" / "m_config.json").read_text())["status"] == "completed"


async def test_what_a_killed_server_was_doing_has_failed_and_is_done_again(
    data_dir: Path, fifo: Path, settings: Settings
) -> None:
    async with a_server(data_dir, "reading", [["rows"], ["wait", str(fifo)]]) as server:
        server.kill()
    litter = [data_dir / folder / f".{name}.0123456789ab.tmp" for folder, name in (
        (".", ".scheduler.json"), ("models", "m_config.json"), ("models", "m.pkl"), ("tasks", "t.json"),
        ("config", "restaurant_data.yaml"))]  # fmt: skip
    for file in litter:
        file.write_bytes(b"half")
    (data_dir / "tasks" / "t.json").rename(data_dir / "t.json")
    async with RecServer(data_dir, settings, executor=ScriptedExecutor()) as rec:
        info = await rec.get_model_info("m")
        assert info["status"] == "failed"
        assert info["error"].startswith("interrupted")
        assert info["failed_at"]
        assert not any(file.exists() for file in litter)
    (data_dir / "t.json").rename(data_dir / "tasks" / "t.json")
    trainings = ScriptedExecutor()
    rec = RecServer(data_dir, settings, executor=trainings)
    with rec.events.listen() as events:
        async with rec:
            (await trainings.next()).finish()
            assert (await events.next(RunEnded)).outcome == "completed"
            info = await rec.get_model_info("m")
            assert (info["status"], info["model_version"]) == ("completed", 1)
            assert not {"error", "failed_at"} & info.keys()


async def test_a_killed_worker_fails_its_run_and_the_next_one_is_trained(
    data_dir: Path, fifo: Path, settings: Settings
) -> None:
    before = children_of(os.getpid())
    prepare(data_dir, [["rows"], ["wait", str(fifo)]])
    rec = RecServer(data_dir, settings)
    with rec.events.listen() as events:
        async with rec:
            await events.next(RunProgressed, lambda event: event.rows_read > 0)
            (worker,) = children_of(os.getpid()) - before
            os.kill(worker, signal.SIGKILL)
            ended = await events.next(RunEnded)
            assert ended.outcome == "failed"
            assert "killed by signal 9" in str(ended.error)
            assert (await rec.get_model_info("m"))["error"] == ended.error
            prepare(data_dir, [["rows"]])
            await rec.remove_model_task("t")
            await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
            assert (await events.next(RunEnded)).outcome == "completed"


async def test_the_record_of_an_interrupted_run_says_so(data_dir: Path, fifo: Path, settings: Settings) -> None:
    async with a_server(data_dir, "reading", [["rows"], ["wait", str(fifo)]]) as server:
        server.kill()
    (data_dir / "models" / "m_config.json").unlink()  # or it would be trained again at once
    async with RecServer(data_dir, settings, executor=ScriptedExecutor()) as rec:
        journal = json.loads((data_dir / ".scheduler.json").read_text())
        assert journal["t"]["runs"] == 1
        listed = (await rec.list_tasks())["t"]
        assert listed["running"] is False
        assert "training" not in (listed["last_status"], journal["t"]["last_status"])
