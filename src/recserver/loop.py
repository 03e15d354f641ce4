"""One task's loop: wait until due, run, plan the next due time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from recserver.clock import Clock
from recserver.specs.tasks import TaskSpec

logger = logging.getLogger(__name__)

Fire = Callable[["TaskLoop", float], Awaitable[None]]
"""Runs a task once for the due time given, and returns when the run has ended."""


class TaskLoop:
    """Fixed rate on the monotonic clock: due times lie one interval apart, however long runs take."""

    def __init__(self, spec: TaskSpec, due: float, fire: Fire, clock: Clock) -> None:
        """
        Args:
            due: the first due time, in seconds of ``clock.monotonic()``; in the past means at once.
        """
        self.spec = spec
        self.due = due
        self.blocked: str | None = None
        """Why the last due time met nothing that could run: a missing model or data chef."""
        self.firing = False
        """Whether a run is under way, or about to be."""
        self._last_due: float | None = None
        self._planned = False
        self._fire = fire
        self._clock = clock
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run the task whenever it is due, until cancelled."""
        while True:
            if await self._clock.wait(self._changed, self.due):
                self._changed.clear()
                continue
            due, self._last_due = self.due, self.due
            self.due = next_due(due, self.spec.interval, self._clock.monotonic())
            self.firing, self._planned = True, False
            try:
                await self._fire(self, due)
            except Exception:  # a fault in one run must not end the task for good
                logger.exception("task %s", self.spec.task_name)
            finally:
                self.firing = False

    def change(self, spec: TaskSpec) -> None:
        """Take a new definition; a changed interval counts from the last due time."""
        if spec.interval != self.spec.interval:
            start = self.due - self.spec.interval if self._last_due is None else self._last_due
            self._due_at(start + spec.interval)
        self.spec = spec

    def plan(self, due: float) -> None:
        """Make ``due`` the next due time; one in the past means at once, or when the run under way has ended."""
        self._due_at(due)
        self._planned = True

    def _due_at(self, due: float) -> None:
        self.due = due
        self._changed.set()

    def skip_missed(self) -> int:
        """Pass over the due times that came while a run was under way, and say how many they were."""
        late = self._clock.monotonic() - self.due
        if late < 0 or self._planned:
            return 0
        missed = int(late // self.spec.interval) + 1
        self.due += missed * self.spec.interval
        return missed


def next_due(due: float, interval: float, now: float) -> float:
    """The due time after ``due``, which has come by ``now``.

    After a suspend or a long downtime, all due times missed are made up for by the one run that starts now,
    and the grid starts again from there.
    """
    return due + interval if now - due < interval else now + interval
