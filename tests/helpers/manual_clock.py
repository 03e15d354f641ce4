"""A clock that is moved by hand, for tests of triggers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from recserver._internal.core.clock import SystemClock


class HandClock(SystemClock):
    """The wall clock and the monotonic clock stand still until the test moves them."""

    def __init__(
        self, wall: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), monotonic: float = 1000.0
    ) -> None:
        self._wall, self._monotonic = wall, monotonic

    def monotonic(self) -> float:
        return self._monotonic

    def now(self) -> datetime:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic += seconds
        self._wall += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self._wall += timedelta(seconds=seconds)
