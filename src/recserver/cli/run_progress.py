"""How a run that is followed is shown: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, Self

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recserver.cli.output import console, printable
from recserver.core.clock import Clock

LINE_INTERVAL = 30.0
"""Elsewhere than on a terminal, a stage that goes on is told of so often."""

MAX_SHARE = 0.99
"""Where the bar waits for a run that takes longer than the one before."""


class RunProgress(BaseModel):
    """How far a run is, as far as is known."""

    model_config = ConfigDict(frozen=True)

    stage: str = "waiting"
    rows_read: int = 0
    queue_position: int | None = None
    iteration: int | None = None
    iterations: int | None = None
    loss: float | None = None
    elapsed_seconds: float | None = None
    eta_seconds: float | None = None
    rows_per_second: float | None = None

    @property
    def details(self) -> str:
        """What is known beside the stage, in words; empty if nothing is."""
        known = []
        if self.queue_position is not None:
            known.append(f"place {self.queue_position} in the queue")
        if self.rows_read:
            known.append(f"{self.rows_read:,} rows")
        if self.rows_per_second:
            known.append(f"{self.rows_per_second:,.0f} rows/s")
        if self.iteration is not None:
            known.append(f"iteration {self.iteration}" + (f" of {self.iterations}" if self.iterations else ""))
        if self.loss is not None:
            known.append(f"loss {self.loss:.6g}")
        return ", ".join(known)

    @property
    def summary(self) -> str:
        """All of it in a line."""
        return printable(f"{self.stage}: {self.details}" if self.details else self.stage)

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1; None if nobody knows."""
        if self.eta_seconds is not None and self.elapsed_seconds is not None:
            whole = self.elapsed_seconds + self.eta_seconds
            return min(MAX_SHARE, self.elapsed_seconds / whole) if whole > 0 else None
        if self.iteration is not None and self.iterations:
            return min(1.0, self.iteration / self.iterations)
        return None


class Display(Protocol):
    """Shows how far a run is."""

    def show(self, progress: RunProgress) -> None:
        """It came to this."""
        ...

    def say(self, sentence: str) -> None:
        """Something else is to be known of it."""
        ...


class NoDisplay:
    """Shows nothing."""

    def show(self, progress: RunProgress) -> None:
        """Nothing."""

    def say(self, sentence: str) -> None:
        """Nothing."""


class LineDisplay:
    """A line whenever the stage or the place in the queue changes, and now and then in between."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: tuple[str, int | None] | None = None
        self._since = clock.monotonic()

    def show(self, progress: RunProgress) -> None:
        """Print a line if it is time for one."""
        now, at = self._clock.monotonic(), (progress.stage, progress.queue_position)
        if at != self._last or now - self._since >= LINE_INTERVAL:
            self._last, self._since = at, now
            console.print(progress.summary, markup=False)

    def say(self, sentence: str) -> None:
        """Print it."""
        console.print(sentence, markup=False)


class BarDisplay:
    """A bar that lives as long as the block."""

    def __init__(self, on: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            console=on,
            transient=True,
        )
        self._job = self._progress.add_task("waiting", total=None, details="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, progress: RunProgress) -> None:
        """Redraw it."""
        left = f"about {format_duration(progress.eta_seconds)} left" if progress.eta_seconds else ""
        told: dict[str, Any] = {
            "description": printable(progress.stage),
            "details": ", ".join(part for part in (left, progress.details) if part),
        }
        if progress.share is not None:
            told |= {"total": 1.0, "completed": progress.share}
        self._progress.update(self._job, **told)

    def say(self, sentence: str) -> None:
        """Print it above the bar."""
        self._progress.console.print(sentence, markup=False)


def make_display(clock: Clock, *, as_json: bool) -> AbstractContextManager[Display]:
    """What suits the place that is written to. With ``as_json`` standard output stays clean."""
    on = Console(stderr=True, highlight=False, soft_wrap=True) if as_json else console
    if on.is_terminal:
        return BarDisplay(on)
    return nullcontext(NoDisplay() if as_json else LineDisplay(clock))


def format_duration(seconds: float | None) -> str:
    """``12.3 s``, ``4 min 5 s``, ``2 h 3 min``; ``-`` if nobody knows."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
