"""How long the stages of a training take."""

from __future__ import annotations

from recserver._internal.core.clock import Clock, SystemClock


class StageTimer:
    """Measures the time of stages."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seconds: dict[str, float] = {}
        self._stage, self._since = "", self._clock.monotonic()

    def begin(self, stage: str) -> None:
        """End the current stage and begin another."""
        self.end()
        self._stage = stage

    def end(self) -> dict[str, float]:
        """End the current stage; the seconds of all stages, in the order in which they began."""
        now = self._clock.monotonic()
        if self._stage:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = "", now
        return {stage: round(seconds, 3) for stage, seconds in self._seconds.items()}
