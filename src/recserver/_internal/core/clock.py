"""The only source of time, so that tests can simulate hours in milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

MAX_SLEEP = 60.0
"""Seconds of the longest single sleep, so that a resume from suspend is noticed within a minute."""

MAX_CLOCK_DRIFT = timedelta(milliseconds=100)
"""The wall clock and the monotonic clock are read one after the other, and the wall clock is slewed. A larger
difference means that the wall clock was set."""


class Clock(Protocol):
    """The interface to time."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps; only differences are meaningful."""
        ...

    def now(self) -> datetime:
        """The wall clock, in UTC. For records only: no schedule is computed from it."""
        ...

    def wall_time(self, monotonic: float) -> datetime:
        """The wall-clock time, in UTC, of a time of ``monotonic()``; the same until the wall clock is set."""
        ...

    async def wait(self, event: asyncio.Event, deadline: float) -> bool:
        """Return True once ``event`` is set, or False once ``monotonic()`` has reached ``deadline``."""
        ...


class SystemClock:
    """The machine's clock. On Linux, time spent suspended counts too."""

    _origin = datetime.min.replace(tzinfo=UTC)
    """The wall-clock time at which ``monotonic()`` was 0."""

    def monotonic(self) -> float:
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boottime is None else time.clock_gettime(boottime)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def wall_time(self, monotonic: float) -> datetime:
        origin = self.now() - timedelta(seconds=self.monotonic())
        if abs(origin - self._origin) > MAX_CLOCK_DRIFT:
            self._origin = origin
        return self._origin + timedelta(seconds=monotonic)

    async def wait(self, event: asyncio.Event, deadline: float) -> bool:
        while not event.is_set():
            remaining = deadline - self.monotonic()
            if remaining <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(remaining, MAX_SLEEP)):
                    await event.wait()
        return True


def blocking_sleep(seconds: float) -> None:
    """Sleep in a thread other than the event loop's."""
    time.sleep(seconds)


async def yield_to_loop() -> None:
    """Let all ready callbacks run first, such as an expired timeout."""
    await asyncio.sleep(0)


def timestamp(moment: datetime) -> str:
    """``moment`` as UTC ISO 8601 with milliseconds: ``2026-01-02T03:04:05.678Z``."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def parse_timestamp(text: object) -> datetime | None:
    """The time that an ISO 8601 ``text`` denotes, else None. Without a zone it is the server's local time."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
