"""The machine's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from recserver._internal.core.clock import SystemClock

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class ClockThatIsSet(SystemClock):
    """A system clock whose two readings a test sets."""

    def __init__(self) -> None:
        self.seconds, self.wall = 1000.0, NOON

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.wall


def test_a_planned_time_has_the_same_wall_time_whenever_it_is_asked_for() -> None:
    clock = SystemClock()
    planned = clock.monotonic() + 3600
    assert len({clock.wall_time(planned) for _ in range(1000)}) == 1
    assert abs(clock.wall_time(planned) - clock.now() - timedelta(hours=1)) < timedelta(seconds=10)


def test_the_wall_time_follows_a_wall_clock_that_is_set() -> None:
    clock = ClockThatIsSet()
    assert clock.wall_time(1600) == NOON + timedelta(minutes=10)
    clock.seconds, clock.wall = 1060.0, NOON + timedelta(seconds=60.05)  # slewed
    assert clock.wall_time(1600) == NOON + timedelta(minutes=10)
    clock.wall = NOON - timedelta(hours=1)
    assert clock.wall_time(1600) == NOON - timedelta(hours=1) + timedelta(minutes=9)
