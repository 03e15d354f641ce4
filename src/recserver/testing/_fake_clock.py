"""A clock that a test advances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

_IDLE_TURNS = 50
"""Iterations of the event loop without new work after which it counts as settled."""


class FakeClock:
    """A :class:`~recserver._internal.core.clock.Clock` that moves only when a test advances it.

    Create it in the running event loop: it replaces the loop's executor by one with a single thread, so that it
    knows when all work, file access included, is done. It does not wait for child processes and sockets.
    """

    def __init__(self, wall: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        """
        Args:
            wall: the initial time of the wall clock.
        """
        self._monotonic = 1000.0
        self._wall = wall
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._executor = _SingleThreadExecutor()
        asyncio.get_running_loop().set_default_executor(self._executor)

    def monotonic(self) -> float:
        return self._monotonic

    def now(self) -> datetime:
        return self._wall

    def wall_time(self, monotonic: float) -> datetime:
        return self._wall + timedelta(seconds=monotonic - self._monotonic)

    @property
    def deadlines(self) -> list[float]:
        """Deadlines of all current waits, earliest first, in seconds of ``monotonic()``."""
        return sorted(deadline for deadline, woken in self._sleepers if not woken.done())

    async def wait(self, event: asyncio.Event, deadline: float) -> bool:
        if event.is_set() or self._monotonic >= deadline:
            return event.is_set()
        woken = asyncio.get_running_loop().create_future()
        sleeper = (deadline, woken)
        self._sleepers.append(sleeper)
        event_set = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((event_set, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sleepers.remove(sleeper)
            event_set.cancel()
            await asyncio.wait((event_set,))  # raises CancelledError if the caller is cancelled here
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Advance from one deadline to the next, and let everything settle at each of them."""
        end = self._monotonic + seconds
        await self.settle()
        while self.deadlines and self.deadlines[0] <= end:
            await self._set_time(self.deadlines[0])
        await self._set_time(end)

    async def suspend(self, seconds: float) -> None:
        """Advance at once, as after a suspend of the machine: all waits that are due end together."""
        await self.settle()
        await self._set_time(self._monotonic + seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator would. ``monotonic()`` does not change."""
        self._wall += timedelta(seconds=seconds)

    async def settle(self) -> None:
        """Return when nothing more happens until time advances or the test acts."""
        quiet = False
        while not quiet:
            before = self._executor.jobs
            # The only thread is idle once it has run this job, which is the last in its queue.
            await asyncio.get_running_loop().run_in_executor(self._executor, int)
            for _ in range(_IDLE_TURNS):
                await asyncio.sleep(0)
            quiet = self._executor.jobs == before

    async def _set_time(self, moment: float) -> None:
        self._wall += timedelta(seconds=moment - self._monotonic)
        self._monotonic = moment
        for deadline, woken in self._sleepers:
            if deadline <= moment and not woken.done():
                woken.set_result(None)
        await self.settle()


class _SingleThreadExecutor(ThreadPoolExecutor):
    """A single thread. It counts its jobs, except those of settle()."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="fake clock")
        self.jobs = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.jobs += fn is not int
        return super().submit(fn, *args, **kwargs)
