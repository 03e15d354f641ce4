"""Versions replaced under load: no request fails, no response mixes two versions, and memory does not grow."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.pipeline import recommend
from recserver._internal.recommend.query import Query
from tests.helpers.model_files import put_model, write_model
from tests.helpers.server_process import a_server

pytestmark = [pytest.mark.process, pytest.mark.slow]

CLIENTS = 4
ITEMS, K = 20_000, 16
"""So that a version is large enough to be mapped, and that ten of them would show in memory."""

ROUND = 10
"""Different versions; they come again and again under new numbers."""


def resident(process: Process) -> int:
    """Bytes of memory that belong to the server alone, and of files that it maps."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return sum(int(one.split()[1]) * 1024 for one in lines if one.startswith("VmRSS"))


def versions(folder: Path) -> tuple[list[bytes], list[Any]]:
    """The files of some versions, and what each answers."""
    files, lists = [], []
    for number in range(ROUND):
        path = write_model(folder / f"{number}.pkl", items=ITEMS, k=K, version=number + 1, seed=number)
        _, model = load_model(path)
        answer = recommend(model, "u0", Query())
        files.append(path.read_bytes())
        lists.append([{"item_id": item, "score": score} for item, score in answer.items])
    return files, lists


class Load:
    """Clients that ask without a pause; every answer must be the list of exactly the version it names."""

    def __init__(self, http: ClientSession, lists: list[Any]) -> None:
        self.http, self.lists = http, lists
        self.answers, self.seen, self.over = 0, asyncio.Condition(), False
        self.version = 0

    async def ask(self) -> None:
        while not self.over:
            async with self.http.get(
                "/recommend", params={"user_id": "u0", "model_id": "m", "n": "10"}
            ) as response:
                answer = await response.json()
                assert response.status == 200, answer
            assert answer["predictions"]["u0"] == self.lists[answer["model_version"] - 1]
            self.answers += 1
            async with self.seen:
                self.version = answer["model_version"]
                self.seen.notify_all()

    async def until(self, version: int) -> None:
        async with self.seen:
            await self.seen.wait_for(lambda: self.version == version)


async def swap_over_and_over(data_dir: Path, swaps: int) -> None:
    models = data_dir / "models"
    put_model(models, "m", items=ITEMS, k=K, version=1, seed=0)
    files, lists = await asyncio.to_thread(versions, data_dir)
    async with a_server(data_dir) as (process, http):
        load = Load(http, lists)
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(load.ask())
            await load.until(1)
            for number in range(1, swaps + 1):
                new = models / "new"
                new.write_bytes(files[number % ROUND])
                new.replace(models / "m.pkl")
                await load.until(number % ROUND + 1)
                if number == 2 * ROUND:
                    warm = resident(process)
            load.over = True
        grown = resident(process) - warm
    print(f"{swaps} swaps, {load.answers} answers, {grown / 2**20:.1f} MiB more than after {2 * ROUND} swaps")
    assert load.answers > swaps
    assert grown < 4 * len(files[0]) + 0.05 * warm


async def test_50_swaps_under_load(data_dir: Path) -> None:
    await swap_over_and_over(data_dir, 50)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_1000_swaps_under_load(data_dir: Path) -> None:
    await swap_over_and_over(data_dir, 1000)
