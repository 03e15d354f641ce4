"""When a task is due: every so many seconds by the monotonic clock, or when a cron expression says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

from recserver.core.clock import Clock
from recserver.training.task import TaskSpec, time_zone

MAX_MISSED_COUNTED = 1000
"""Due times of a cron expression that are counted when they were missed."""

CLOCK_TOLERANCE = timedelta(milliseconds=1)
"""So near is a moment as good as met: the two clocks do not count in the same steps."""


class Trigger(Protocol):
    """The due times of one task, in seconds of ``clock.monotonic()``."""

    @property
    def recheck_seconds(self) -> float | None:
        """Seconds after which :meth:`still_due` must be asked; None if never."""
        ...

    def first_due(self, last: datetime | None, clock: Clock) -> float:
        """The first due time of a task whose last run was due at ``last``: now, if one has come meanwhile."""
        ...

    def next_due(self, due: float, clock: Clock) -> float:
        """The next due time, now that ``due`` has come. All that were missed since count as this one."""
        ...

    def missed_and_next(self, due: float, clock: Clock) -> tuple[int, float]:
        """How many due times from ``due`` on have passed, and the first that has not."""
        ...

    def corrected_due(self, due: float, clock: Clock) -> float:
        """``due``, corrected by what the wall clock shows now."""
        ...

    def wall_time(self, due: float, clock: Clock) -> datetime:
        """What the wall clock showed at ``due``, the last due time that has come."""
        ...


class IntervalTrigger:
    """Fixed rate: due times lie one interval apart, however long runs take and whatever the wall clock does."""

    recheck_seconds = None

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def first_due(self, last: datetime | None, clock: Clock) -> float:
        now = clock.monotonic()
        if last is None:
            return now
        # The wall clock only says how old the last run is, and that no more than an interval is believed.
        age = (clock.now() - last).total_seconds()
        return now + self.interval - min(max(age, 0.0), self.interval)

    def next_due(self, due: float, clock: Clock) -> float:
        now = clock.monotonic()
        return due + self.interval if now - due < self.interval else now + self.interval

    def missed_and_next(self, due: float, clock: Clock) -> tuple[int, float]:
        late = clock.monotonic() - due
        missed = 0 if late < 0 else int(late // self.interval) + 1
        return missed, due + missed * self.interval

    def corrected_due(self, due: float, clock: Clock) -> float:
        return due

    def wall_time(self, due: float, clock: Clock) -> datetime:
        return _to_wall_time(due, clock)


class CronTrigger:
    """The moments that a cron expression names, by the wall clock of a time zone, summer time included.

    The clock is followed wherever it is set, but the moment that was met last is not met again.
    """

    recheck_seconds = 60.0

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
        coming: datetime | None = self._next
        moments = self._times_after(self._next)
        while coming is not None and coming <= now:
            missed, self._last_due = missed + 1, coming
            coming = next(moments, None) if missed < MAX_MISSED_COUNTED else self._next_after(now)
        self._next = coming
        return missed, self._to_monotonic(clock)

    def corrected_due(self, due: float, clock: Clock) -> float:
        if self._next is None:
            return due
        now = clock.monotonic()
        since = 0.0 if self._last_checked is None else min(now - self._last_checked, self.recheck_seconds)
        self._last_checked = now
        # The clock may have been set back, and have shown a moment again since.
        earlier = self._next_after(clock.now() - timedelta(seconds=since))
        if earlier is not None and earlier < self._next:
            self._next = earlier
        return self._to_monotonic(clock)

    def wall_time(self, due: float, clock: Clock) -> datetime:
        return self._last_due or _to_wall_time(due, clock)

    def _next_after(self, moment: datetime) -> datetime | None:
        """The first moment after ``moment`` that was not met last."""
        return next((one for one in self._times_after(moment) if one != self._last_due), None)

    def _times_after(self, after: datetime) -> Iterator[datetime]:
        from cronsim import CronSim

        for moment in CronSim(self._expression, after.astimezone(self._zone)):
            utc = moment.astimezone(UTC)  # an hour that comes twice cannot be told apart in its own zone
            if utc > after:  # of times in such an hour the first is told, even where it is over
                yield utc

    def _to_monotonic(self, clock: Clock) -> float:
        if self._next is None:
            return float("inf")
        wait = self._next - clock.now()
        return clock.monotonic() + (wait.total_seconds() if wait > CLOCK_TOLERANCE else 0.0)


def _to_wall_time(due: float, clock: Clock) -> datetime:
    return clock.now() - timedelta(seconds=max(0.0, clock.monotonic() - due))


def trigger_for(spec: TaskSpec) -> Trigger:
    """The due times that a task asks for."""
    if spec.schedule is not None:
        return CronTrigger(spec.schedule, spec.timezone)
    if spec.interval is None:
        raise AssertionError("a task has an interval or a schedule")
    return IntervalTrigger(spec.interval)
