"""When a task is due: at a fixed rate by the monotonic clock, or at the times of a cron expression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from recserver._internal.core.clock import Clock
from recserver._internal.training.task import TaskSpec, time_zone

MAX_MISSED_COUNTED = 1000
"""Missed due times of a cron expression are counted up to this number."""

CLOCK_TOLERANCE = timedelta(milliseconds=1)
"""A time this near counts as reached: the wall clock and the monotonic clock have different resolutions."""


class Trigger(ABC):
    """The due times of one task, in seconds of ``clock.monotonic()``."""

    recheck_seconds: float | None = None
    """Seconds after which :meth:`corrected_due` must be called again; None if never."""

    @abstractmethod
    def first_due(self, last: datetime | None, clock: Clock) -> float:
        """The first due time of a task that was last due at ``last``: now, if it has been due since."""

    @abstractmethod
    def next_due(self, due: float, clock: Clock) -> float:
        """The due time after ``due``, which has come. Those missed since are coalesced into one."""

    @abstractmethod
    def missed_and_next(self, due: float, clock: Clock) -> tuple[int, float]:
        """The number of due times from ``due`` on that have passed, and the first that has not."""

    def corrected_due(self, due: float, clock: Clock) -> float:
        """``due``, corrected for changes of the wall clock."""
        return due

    def wall_time(self, due: float, clock: Clock) -> datetime:
        """The wall-clock time of ``due``, the last due time that has come."""
        return clock.wall_time(due)

    def next_wall_time(self, due: float, clock: Clock) -> datetime:
        """The wall-clock time of ``due``, the next due time."""
        return clock.wall_time(due)


class IntervalTrigger(Trigger):
    """Fixed rate: due times are one interval apart, however long runs take and wherever the wall clock is set."""

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def first_due(self, last: datetime | None, clock: Clock) -> float:
        now = clock.monotonic()
        if last is None:
            return now
        # The wall clock may have been set since: an age below 0 or above one interval is not believed.
        age = (clock.now() - last).total_seconds()
        return now + self.interval - min(max(age, 0.0), self.interval)

    def next_due(self, due: float, clock: Clock) -> float:
        now = clock.monotonic()
        return due + self.interval if now - due < self.interval else now + self.interval

    def missed_and_next(self, due: float, clock: Clock) -> tuple[int, float]:
        late = clock.monotonic() - due
        missed = 0 if late < 0 else int(late // self.interval) + 1
        return missed, due + missed * self.interval


class CronTrigger(Trigger):
    """The times of a cron expression, by the wall clock of a time zone, daylight saving time included.

    Due times follow the wall clock wherever it is set, but the last due time is not repeated.
    """

    recheck_seconds: float = 60.0

    def __init__(self, expression: str, zone: str) -> None:
        self._expression = expression
        self._zone = time_zone(zone)
        self._next: datetime | None = None
        self._last_due: datetime | None = None
        self._last_checked: float | None = None

    def first_due(self, last: datetime | None, clock: Clock) -> float:
        if last is None:
            return clock.monotonic()
        self._last_due, self._last_checked = last, clock.monotonic()
        self._next = self._next_after(min(last, clock.now()))
        return self._to_monotonic(clock)

    def next_due(self, due: float, clock: Clock) -> float:
        self.missed_and_next(due, clock)
        self._last_checked = clock.monotonic()
        self._next = self._next_after(clock.now() + CLOCK_TOLERANCE)
        return self._to_monotonic(clock)

    def missed_and_next(self, due: float, clock: Clock) -> tuple[int, float]:
        now, missed = clock.now() + CLOCK_TOLERANCE, 0
        if self._next is None or self._next > now:
            return 0, due
        times = self._times_after(self._next)
        while self._next is not None and self._next <= now:
            missed, self._last_due = missed + 1, self._next
            self._next = next(times, None) if missed < MAX_MISSED_COUNTED else self._next_after(now)
        return missed, self._to_monotonic(clock)

    def corrected_due(self, due: float, clock: Clock) -> float:
        if self._next is None:
            return due
        now = clock.monotonic()
        since = 0.0 if self._last_checked is None else min(now - self._last_checked, self.recheck_seconds)
        self._last_checked = now
        # The clock may have been set back and have passed a due time again since the last check.
        earlier = self._next_after(clock.now() - timedelta(seconds=since))
        if earlier is not None and earlier < self._next:
            self._next = earlier
        return self._to_monotonic(clock)

    def wall_time(self, due: float, clock: Clock) -> datetime:
        return self._last_due or super().wall_time(due, clock)

    def next_wall_time(self, due: float, clock: Clock) -> datetime:
        if self._next is None or due <= clock.monotonic():  # due at once, because it was rescheduled
            return super().next_wall_time(due, clock)
        return self._next

    def _next_after(self, after: datetime) -> datetime | None:
        """The first time after ``after`` other than the last due time."""
        return next((time for time in self._times_after(after) if time != self._last_due), None)

    def _times_after(self, after: datetime) -> Iterator[datetime]:
        for local_time in CronSim(self._expression, after.astimezone(self._zone)):
            utc = local_time.astimezone(UTC)  # in local time the two passes of a repeated hour compare as equal
            if utc > after:  # in a repeated hour CronSim yields the first pass, even if that is over
                yield utc

    def _to_monotonic(self, clock: Clock) -> float:
        if self._next is None:
            return float("inf")
        wait = self._next - clock.now()
        return clock.monotonic() + (wait.total_seconds() if wait > CLOCK_TOLERANCE else 0.0)


def trigger_for(spec: TaskSpec) -> Trigger:
    """The trigger of a task: its cron expression if it has one, else its interval."""
    if spec.schedule is not None:
        return CronTrigger(spec.schedule, spec.timezone)
    if spec.interval is None:
        raise AssertionError("a task has an interval or a schedule")
    return IntervalTrigger(spec.interval)
