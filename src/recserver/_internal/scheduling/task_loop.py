"""The loop of one task: wait until it is due, run it, retry a failed run, compute the next due time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from recserver._internal.core.clock import Clock
from recserver._internal.scheduling.triggers import Trigger
from recserver._internal.training.task import TaskSpec

logger = logging.getLogger(__name__)

OnDue = Callable[["TaskLoop", float, int], Awaitable[float | None]]
"""Runs a loop's task for a due time, as the attempt with a number, and returns when the run has ended: the seconds
before the next attempt, or None if none is to be made."""


class TaskLoop:
    """Fires one task at the due times of its :class:`~recserver._internal.scheduling.triggers.Trigger`."""

    def __init__(self, spec: TaskSpec, trigger: Trigger, due: float, fire: OnDue, clock: Clock) -> None:
        """
        Args:
            trigger: not shared with other loops.
            due: the first due time, in seconds of ``clock.monotonic()``; one in the past means at once.
        """
        self.spec = spec
        self.trigger = trigger
        self.due = due
        self.blocking_reason: str | None = None
        """Why no run could begin at the last due time: a missing model or data chef."""
        self.is_firing = False
        """Whether a run is under way, or about to begin."""
        self.retry_at: float | None = None
        """When a failed run is retried; always before the next due time."""
        self.coalesced = 0
        """Missed due times before the last one, which its run replaces."""
        self.attempts = 0
        """Runs started for the last due time; set by ``fire``."""
        self.last_run_id: str | None = None
        """The last of these runs; set by ``fire``."""
        self._last_due: float | None = None
        self._rescheduled = False
        self._fire = fire
        self._clock = clock
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run the task whenever it is due, until cancelled."""
        while True:
            if await self._clock.wait(self._changed, self._next_wake()):
                self._changed.clear()
                continue
            now = self._clock.monotonic()
            if self.retry_at is not None and self.retry_at <= now and self._last_due is not None:
                await self._attempt(self._last_due, self.attempts + 1)
                continue
            if not self._rescheduled:
                self.due = self.trigger.corrected_due(self.due, self._clock)
            if self.due <= self._clock.monotonic():
                self.attempts, self._last_due, self._rescheduled = 0, self.due, False
                self.coalesced = max(0, self.trigger.missed_and_next(self.due, self._clock)[0] - 1)
                self.due = self.trigger.next_due(self.due, self._clock)
                await self._attempt(self._last_due, 1)

    def _next_wake(self) -> float:
        wake = self.due if self.retry_at is None else min(self.due, self.retry_at)
        recheck = self.trigger.recheck_seconds
        return wake if recheck is None else min(wake, self._clock.monotonic() + recheck)

    async def _attempt(self, due: float, attempt: int) -> None:
        self.is_firing, self.retry_at = True, None
        delay = None
        try:
            delay = await self._fire(self, due, attempt)
        except Exception:  # an internal error of one run must not end the loop
            logger.exception("task %s", self.spec.task_name)
        finally:
            self.is_firing = False
        if delay is not None and not self._rescheduled:
            retry_at = self._clock.monotonic() + delay
            self.retry_at = retry_at if retry_at < self.due else None

    def update(self, spec: TaskSpec, trigger: Trigger, due: float | None) -> None:
        """Replace the task's definition.

        Args:
            trigger: that of ``spec``.
            due: the next due time if the cron expression or its time zone changed, else None. A changed
                interval counts from the last due time.
        """
        if spec.interval != self.spec.interval and spec.schedule is None and self.spec.schedule is None:
            start = self.due - float(self.spec.interval or 0) if self._last_due is None else self._last_due
            due = start + float(spec.interval or 0)
        if due is not None:
            self.trigger = trigger
            self._set_due(due)
        self.spec = spec

    def reschedule(self, due: float) -> None:
        """Make ``due`` the next due time; one in the past means at once, or after the run under way."""
        self._set_due(due)
        self._rescheduled = True

    def _set_due(self, due: float) -> None:
        self.due, self.retry_at = due, None
        self._changed.set()

    def skip_missed(self) -> int:
        """Skip the due times that passed during the run that has just ended, and return their number."""
        if self._rescheduled:
            return 0
        missed, self.due = self.trigger.missed_and_next(self.due, self._clock)
        return missed
