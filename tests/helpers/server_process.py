"""Real servers in separate processes, whose trainings wait where the test needs them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientError, ClientSession

from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.storage import model_file as artifact

PLUGINS = Path(__file__).parents[1] / "plugins"

SERVER = """
import asyncio, sys
from recserver import RecServer, Settings

async def main():
    rec = RecServer(sys.argv[1], Settings(port=0, training_processes=2, rescan_seconds=1))
    async with rec, rec.serve() as url:
        print(url, flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


def lot() -> random.Random:
    """A random generator whose seed is printed."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    return random.Random(seed)


def prepare(data_dir: Path, models: int = 2, *, pause: float = 0.02, interval: float = 1.0) -> None:
    """Models ``m0``, ``m1`` … trained by tasks from a slow chef, which returns other rows each time."""
    for name in ("models", "tasks", "config"):
        (data_dir / name).mkdir(parents=True, exist_ok=True)
    chef = {"type": "steps", "steps": [["rows"], ["pause", pause], ["some_rows"], ["pause", pause]]}
    (data_dir / "config" / "restaurant_data.yaml").write_text(yaml.safe_dump({"c": chef}))
    for number in range(models):
        (data_dir / "models" / f"m{number}_config.json").write_text(json.dumps({"algorithm": "quick"}))
        task = {"model_id": f"m{number}", "interactions_data_chef_id": "c", "interval": interval}
        (data_dir / "tasks" / f"t{number}.json").write_text(json.dumps(task))


@asynccontextmanager
async def a_server(data_dir: Path, **environment: str) -> AsyncIterator[tuple[Process, ClientSession]]:
    """A server in a separate process, ready to serve."""
    script = data_dir.parent / "server.py"
    script.write_text(SERVER)
    path = os.pathsep.join([str(PLUGINS), *filter(None, sys.path)])
    server = await asyncio.create_subprocess_exec(
        sys.executable, script, data_dir, stdout=PIPE, env={**os.environ, "PYTHONPATH": path, **environment}
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(30):
            url = (await server.stdout.readline()).decode().strip()
        async with ClientSession(url) as http:
            yield server, http
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def get(http: ClientSession, path: str) -> Any:
    async with http.get(path) as response:
        assert response.status == 200, (path, response.status, await response.text())
        return await response.json()


async def post(http: ClientSession, path: str, **body: Any) -> Any:
    async with http.post(path, json=body) as response:
        assert response.status == 200, (path, response.status, await response.text())
        return await response.json()


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Return once ``check`` holds; fail after some seconds."""
    async with asyncio.timeout(seconds):
        while not await check():
            await passing(0.02)


async def passing(seconds: float) -> None:
    """Let real time pass."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    timer = loop.call_later(seconds, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()


@asynccontextmanager
async def asking(http: ClientSession, models: int, per_second: float = 40) -> AsyncIterator[list[int]]:
    """Requests recommendations while the context is open; yields the statuses of the responses."""
    statuses = list[int]()

    async def ask() -> None:
        number = 0
        while True:
            number += 1
            with suppress(ClientError):
                async with http.get(f"/recommend/u{number % 6}/m{number % models}") as response:
                    await response.read()
                    statuses.append(response.status)
            await passing(1 / per_second)

    work = asyncio.ensure_future(ask())
    try:
        yield statuses
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def versions(data_dir: Path, model_id: str) -> tuple[int, int, int]:
    """The versions in a model's file, its metadata and its config; 0 if there is none."""
    models = data_dir / "models"
    packed = models / f"{model_id}.pkl"
    version = Recommender.from_artifact(artifact.load(packed)).model_version if packed.exists() else 0
    told = (models / f"{model_id}_{name}.json" for name in ("metadata", "config"))
    metadata, config = (json.loads(one.read_text()) if one.exists() else {} for one in told)
    return version, metadata.get("model_version", 0), config.get("model_version", 0)
