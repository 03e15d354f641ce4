"""For tests of recserver and of its plug-ins: time that stands still, and trainings that end when the test says.

Nothing here sleeps. A test moves the clock by hand, ends trainings by hand, and awaits events::

    clock, trainings = FakeClock(), ScriptedExecutor()
    async with RecServer(folder, settings, clock=clock, executor=trainings) as rec:
        ...                                     # create a model, a data chef and a task
        (await trainings.next()).finish()       # the first training ends well
        await clock.advance(3600)               # and an hour later
        (await trainings.next()).fail("The source is away.")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from recserver.algorithms import Factors
from recserver.errors import SourceUnchanged, TrainingFailed
from recserver.executors import OnProgress
from recserver.interactions import Interactions
from recserver.plugins import algorithm
from recserver.specs.jobs import Preview, PreviewJob, Progress, TrainingJob, TrainingResult
from recserver.worker.preview import preview
from recserver.worker.train import digest_of, finish_training

_TURNS = 50
"""Turns of the event loop in which nothing may begin before it counts as settled."""


class FakeClock:
    """A :class:`~recserver.clock.Clock` that only moves when told to.

    Make it in the running event loop: it gives the loop one single worker thread, so that it can tell when
    everything, file access included, has come to rest. Child processes and sockets are not waited for.
    """

    def __init__(self, wall: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        """
        Args:
            wall: what the wall clock shows at first.
        """
        self._monotonic = 1000.0
        self._wall = wall
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._thread = _OneThread()
        asyncio.get_running_loop().set_default_executor(self._thread)

    def monotonic(self) -> float:
        return self._monotonic

    def now(self) -> datetime:
        return self._wall

    @property
    def deadlines(self) -> list[float]:
        """Until when somebody waits, earliest first, in seconds of ``monotonic()``."""
        return sorted(deadline for deadline, woken in self._sleepers if not woken.done())

    async def wait(self, event: asyncio.Event, deadline: float) -> bool:
        if event.is_set() or self._monotonic >= deadline:
            return event.is_set()
        woken = asyncio.get_running_loop().create_future()
        sleeper = (deadline, woken)
        self._sleepers.append(sleeper)
        told = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((told, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sleepers.remove(sleeper)
            told.cancel()
            with suppress(asyncio.CancelledError):
                await told
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Let time pass: from one deadline to the next, with everything at rest at each of them."""
        end = self._monotonic + seconds
        await self.settle()
        while self.deadlines and self.deadlines[0] <= end:
            await self._become(self.deadlines[0])
        await self._become(end)

    async def suspend(self, seconds: float) -> None:
        """Let the machine sleep: time has passed all at once, and all who waited for any of it wake together."""
        await self.settle()
        await self._become(self._monotonic + seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back, as an administrator would. Nothing else moves."""
        self._wall += timedelta(seconds=seconds)

    async def settle(self) -> None:
        """Return when nothing happens any more until time passes or a test acts."""
        quiet = False
        while not quiet:
            before = self._thread.jobs
            # The only thread has done everything that was asked of it when it has done this.
            await asyncio.get_running_loop().run_in_executor(self._thread, int)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            quiet = self._thread.jobs == before

    async def _become(self, moment: float) -> None:
        self._wall += timedelta(seconds=moment - self._monotonic)
        self._monotonic = moment
        for deadline, woken in self._sleepers:
            if deadline <= moment and not woken.done():
                woken.set_result(None)
        await self.settle()


class _OneThread(ThreadPoolExecutor):
    """A single worker thread that counts its jobs."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="fake clock")
        self.jobs = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.jobs += fn is not int
        return super().submit(fn, *args, **kwargs)


@dataclass(slots=True, eq=False)
class ScriptedTraining:
    """A training under way in a :class:`ScriptedExecutor`. It goes on until it is told how to end."""

    job: TrainingJob
    on_progress: OnProgress
    cancelled: bool = False
    """Whether recserver ended it."""
    tamper: Callable[[Path], object] | None = None
    """What happens to the packed file of a training that ends well, before recserver sees it."""
    _ending: asyncio.Future[Callable[[], TrainingResult]] = field(default_factory=asyncio.Future)

    def progress(self, stage: str, rows_read: int = 0) -> None:
        """Tell how far it is."""
        self.on_progress(Progress(stage=stage, rows_read=rows_read))

    def finish(self, interactions: Interactions | None = None) -> None:
        """End well, with a real packed model of ``interactions``; without them it is :func:`few_interactions`.

        As a real training does, it ends as unchanged if the last one learned from the same.
        """
        learned = few_interactions() if interactions is None else interactions

        def ending() -> TrainingResult:
            result = _packed(self.job, learned)
            if self.tamper is not None:
                self.tamper(self.job.out)
            return result

        self._ending.set_result(ending)

    def fail(self, error: str | Exception = "The source is away.") -> None:
        """End with a TrainingFailed of that sentence, or by raising that exception."""

        def ending() -> TrainingResult:
            raise TrainingFailed(error) if isinstance(error, str) else error

        self._ending.set_result(ending)


class ScriptedExecutor:
    """An :class:`~recserver.executors.Executor` that trains nothing: the test ends each training by hand."""

    def __init__(self) -> None:
        self.all: list[ScriptedTraining] = []
        """Every training begun so far, oldest first."""
        self.under_way: list[ScriptedTraining] = []
        """Those that have not ended."""
        self._taken = 0
        self._news = asyncio.Condition()

    @property
    def begun(self) -> int:
        """How many trainings were begun so far."""
        return len(self.all)

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        training = ScriptedTraining(job, on_progress)
        self.under_way.append(training)
        self.all.append(training)
        try:
            async with self._news:
                self._news.notify_all()
            training.progress("fitting")
            ending = await training._ending
            return await asyncio.to_thread(ending)
        except asyncio.CancelledError:
            training.cancelled = True
            raise
        finally:
            self.under_way.remove(training)

    async def preview(self, job: PreviewJob) -> Preview:
        """Look at the source as a worker would, in a thread of this process."""
        return await asyncio.to_thread(preview, job)

    async def next(self) -> ScriptedTraining:
        """The first training that was not handed out yet; waits for it to begin."""
        async with self._news:
            await self._news.wait_for(lambda: self._taken < len(self.all))
        self._taken += 1
        return self.all[self._taken - 1]

    async def close(self) -> None:
        """Nothing is left to end."""


def few_interactions(users: int = 3, items: int = 4) -> Interactions:
    """Up to ten users and items: ``u0`` interacted with ``i0``, ``u1`` with ``i0`` and ``i1``, and so on."""
    rows = [(user, item) for user in range(users) for item in range(min(user + 1, items))]
    counts = np.bincount([user for user, _ in rows], minlength=users)
    return Interactions(
        users=[f"u{user}" for user in range(users)],
        items=[f"i{item}" for item in range(items)],
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=np.array([item for _, item in rows], np.int32),
        ratings=np.ones(len(rows), np.float32),
        rows_used=len(rows),
    )


def _packed(job: TrainingJob, interactions: Interactions) -> TrainingResult:
    """What a training would make of ``interactions``, with factors that are cheap instead of fitted."""
    digest = digest_of(job, interactions)
    if digest == job.trained_digest:
        raise SourceUnchanged("The data and the hyperparameters are those of the last training.")
    users = np.ones((len(interactions.users), 1), np.float32)
    items = np.linspace(1, 0.5, len(interactions.items), dtype=np.float32).reshape(-1, 1)
    factors = Factors(users, items, dict(job.hyperparameters), {"n_components": 1})
    return finish_training(job, algorithm(job.algorithm), interactions, factors, digest)
