"""Displays of the progress of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from recserver._internal.cli.output import console, error_console
from recserver._internal.core.clock import Clock
from recserver._internal.core.errors import escape
from recserver._internal.training.jobs import Progress

LINE_INTERVAL = 30.0
"""Seconds after which :class:`LineDisplay` prints a stage that lasts again."""

MAX_SHARE = 0.99
"""Where the bar waits when a run takes longer than the last one."""


class RunProgress(Progress):
    """The progress of a run, as far as it is known."""

    stage: str = "waiting"
    elapsed_seconds: float | None = None
    eta_seconds: float | None = None
    rows_per_second: float | None = None

    @property
    def details(self) -> str:
        """What is known besides the stage; empty if nothing is."""
        details = []
        if self.queue_position is not None:
            details.append(f"position {self.queue_position} in the queue")
        if self.rows_read:
            details.append(f"{self.rows_read:,} rows")
        if self.rows_per_second:
            details.append(f"{self.rows_per_second:,.0f} rows/s")
        if self.iteration is not None:
            details.append(f"iteration {self.iteration}" + (f" of {self.iterations}" if self.iterations else ""))
        if self.loss is not None:
            details.append(f"loss {self.loss:.6g}")
        return ", ".join(details)

    @property
    def summary(self) -> str:
        """Stage and details in one line."""
        return escape(f"{self.stage}: {self.details}" if self.details else self.stage)

    @property
    def share(self) -> float | None:
        """The completed share, 0 to 1; None if it is unknown."""
        if self.eta_seconds is not None and self.elapsed_seconds is not None:
            total = self.elapsed_seconds + self.eta_seconds
            return min(MAX_SHARE, self.elapsed_seconds / total) if total > 0 else None
        if self.iteration is not None and self.iterations:
            return min(1.0, self.iteration / self.iterations)
        return None


class LineDisplay:
    """Prints a line when the stage or the queue position changes, and every :data:`LINE_INTERVAL` seconds."""

    def __init__(self, on: Console, clock: Clock) -> None:
        self._on, self._clock = on, clock
        self._last: tuple[str, int | None] | None = None
        self._printed_at = clock.monotonic()

    def show(self, progress: RunProgress) -> None:
        """Print a line if one is due."""
        now, current = self._clock.monotonic(), (progress.stage, progress.queue_position)
        if current != self._last or now - self._printed_at >= LINE_INTERVAL:
            self._last, self._printed_at = current, now
            self._on.print(progress.summary, markup=False)

    def say(self, sentence: str) -> None:
        """Print a sentence about the run."""
        self._on.print(sentence, markup=False)


class BarDisplay:
    """A progress bar on ``on``, shown while the ``with`` block runs."""

    def __init__(self, on: Console) -> None:
        self._bar = ProgressBar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            console=on,
            transient=True,
        )
        self._task = self._bar.add_task("waiting", total=None, details="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: RunProgress) -> None:
        """Redraw the bar."""
        remaining = f"about {format_duration(progress.eta_seconds)} left" if progress.eta_seconds else ""
        fields: dict[str, Any] = {
            "description": escape(progress.stage),
            "details": ", ".join(part for part in (remaining, progress.details) if part),
        }
        if progress.share is not None:
            fields |= {"total": 1.0, "completed": progress.share}
        self._bar.update(self._task, **fields)

    def say(self, sentence: str) -> None:
        """Print the sentence above the bar."""
        self._bar.console.print(sentence, markup=False)


def make_display(clock: Clock, *, as_json: bool) -> AbstractContextManager[LineDisplay | BarDisplay]:
    """A bar on a terminal, else lines; with ``as_json`` nothing is written to standard output."""
    on = error_console if as_json else console
    if on.is_terminal:
        return BarDisplay(on)
    return nullcontext(LineDisplay(Console(quiet=True) if as_json else on, clock))


def format_duration(seconds: float | None) -> str:
    """``12.3 s``, ``4 min 5 s``, ``2 h 3 min``; ``-`` for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
