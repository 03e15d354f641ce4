"""Many tasks on a real clock and a real loop, whose trainings cost next to nothing."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from aiohttp import ClientSession

from recserver import RecServer, Settings
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.errors import SourceUnchanged
from recserver._internal.training.executors.protocol import OnProgress
from recserver._internal.training.jobs import Preview, PreviewJob, TrainingJob, TrainingResult
from recserver.testing import ScriptedExecutor, few_interactions


class AtOnce(ScriptedExecutor):
    """Trainings that end at once, the first of each model with a version, the others as unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: defaultdict[str, list[float]] = defaultdict(list)
        """When each training of a model began, by the monotonic clock."""
        self._clock = SystemClock()

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        self.starts[job.model_id].append(self._clock.monotonic())
        if job.previous_digest is not None:
            await asyncio.sleep(0)
            raise SourceUnchanged("The data and the hyperparameters are those of the last training.")
        working = asyncio.ensure_future(super().run(job, on_progress))
        training = await self.next()
        training.finish(few_interactions())
        return await working

    async def preview(self, job: PreviewJob) -> Preview:
        raise NotImplementedError


def prepare(data_dir: Path, intervals: Iterable[float]) -> None:
    """A data folder with models ``m0``, ``m1`` … and tasks ``t0``, ``t1`` … of those intervals."""
    for name in ("models", "tasks", "config"):
        (data_dir / name).mkdir(parents=True)
    (data_dir / "rows.csv").write_text("user_id,item_id\nu,i\n")
    chefs = {"c": {"type": "csv", "file_path": "rows.csv"}}
    (data_dir / "config" / "restaurant_data.yaml").write_text(yaml.safe_dump(chefs))
    for number, interval in enumerate(intervals):
        (data_dir / "models" / f"m{number}_config.json").write_text(json.dumps({"algorithm": "nmf"}))
        task = {"model_id": f"m{number}", "interactions_data_chef_id": "c", "interval": interval}
        (data_dir / "tasks" / f"t{number}.json").write_text(json.dumps(task))


@asynccontextmanager
async def serving(data_dir: Path, executor: AtOnce, **more: object) -> AsyncIterator[tuple[RecServer, str]]:
    """A server over HTTP, and its address."""
    rec = RecServer(data_dir, Settings(port=0, training_processes=1, **more), executor=executor)  # type: ignore[arg-type]
    async with rec, rec.serve() as url:
        yield rec, url


async def load(url: str, per_second: float, seed: int) -> dict[int, int]:
    """Ask for recommendations until cancelled; how many answers there were, by status."""
    lot, statuses, clock = random.Random(seed), defaultdict[int, int](int), SystemClock()
    async with ClientSession(url) as http:

        async def ask() -> None:
            path = f"/recommend?user_id=u{lot.randrange(3)}&model_id=m{lot.randrange(5)}"
            async with http.get(path) as response:
                await response.read()
                statuses[response.status] += 1

        begun, asked, asking = clock.monotonic(), 0, set[asyncio.Task[None]]()
        try:
            while True:
                await clock.wait(asyncio.Event(), begun + asked / per_second)
                asked += 1
                asking.add(asyncio.ensure_future(ask()))
                asking = {one for one in asking if not one.done()}
        except asyncio.CancelledError:
            await asyncio.gather(*asking)
    return statuses


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


async def passing(seconds: float) -> None:
    """Let real time pass."""
    clock = SystemClock()
    await clock.wait(asyncio.Event(), clock.monotonic() + seconds)
