"""A server on a fake clock, whose trainings the test ends by hand."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from recserver import RecServer, Settings
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.core.events import RunEnded, Subscription
from recserver.testing import FakeClock, ScriptedExecutor, ScriptedTraining


@dataclass
class Workbench:
    """An open server, its clock, its scripted trainings and its events."""

    rec: RecServer
    clock: FakeClock
    trainings: ScriptedExecutor
    events: Subscription
    begun: float
    """When it was opened, by the monotonic clock."""

    @classmethod
    async def open(
        cls,
        stack: AsyncExitStack,
        data_dir: Path,
        settings: Settings,
        clock: FakeClock | None = None,
        trainings: ScriptedExecutor | None = None,
    ) -> Self:
        clock, trainings = clock or FakeClock(), trainings or ScriptedExecutor()
        # The folders are looked at when the test says so: a watcher's real-time rescans would be noise.
        settings = settings.model_copy(update={"rescan_seconds": 3600.0})
        rec = RecServer(data_dir, settings, clock=clock, executor=trainings)
        events = stack.enter_context(rec.events.listen())
        await stack.enter_async_context(rec)
        bench = cls(rec, clock, trainings, events, clock.monotonic())
        if "m" not in await rec.list_models():
            await rec.create_model("m", algorithm="nmf")
            (data_dir / "rows.csv").write_text("user_id,item_id\nu,i\n")
            await rec.create_data_chef_from_csv("c", file_path="rows.csv")
        return bench

    async def add_task(self, name: str = "t", *, model_id: str = "m", interval: float = 100) -> None:
        await self.rec.add_model_task(name, model_id=model_id, data_chef_id="c", interval=interval)

    async def trained(self, interval: float = 100) -> None:
        """Add task ``t``, due every ``interval`` seconds from now on, and finish its first run in no time."""
        await self.add_task(interval=interval)
        await self.finish()

    async def finish(self, interactions: Interactions | None = None) -> RunEnded:
        """Let the next training succeed; returns when its run has ended."""
        (await self.trainings.next()).finish(interactions)
        return await self.ended()

    async def fail(self) -> RunEnded:
        """Let the next training fail."""
        (await self.trainings.next()).fail("The source is away.")
        return await self.ended()

    async def ended(self) -> RunEnded:
        """The next end of a run."""
        event = await self.events.next(RunEnded)
        await self.clock.settle()
        return event

    async def one_begun(self) -> ScriptedTraining:
        """The training that has begun by now: there must be exactly one that the test was not given yet."""
        await self.clock.settle()
        async with asyncio.timeout(20):
            return await self.trainings.next()

    def elapsed(self) -> float:
        """Seconds since the server was opened."""
        return self.clock.monotonic() - self.begun

    async def task(self, name: str = "t") -> dict[str, Any]:
        return (await self.rec.list_tasks())[name]

    async def next_due(self, name: str = "t") -> float:
        """In how many seconds a task is due next."""
        loop = self.rec._services.scheduler.loop(name)
        assert loop is not None
        return loop.due - self.clock.monotonic()

    async def write_task(self, name: str = "t", **changes: Any) -> None:
        """Change a task's file by hand, and have the folders looked at."""
        path = self.rec.data_dir / "tasks" / f"{name}.json"
        usual = {"model_id": "m", "interactions_data_chef_id": "c", "interval": 100}
        before = json.loads(path.read_text()) if path.exists() else usual
        path.write_text(json.dumps(before | changes))
        await self.look()

    async def look(self) -> None:
        """Do what the folder watcher does after a change."""
        await self.rec._services.model_cache.refresh()
        await self.rec._services.scheduler.reconcile()
        await self.clock.settle()
