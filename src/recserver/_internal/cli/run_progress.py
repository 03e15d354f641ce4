"""Displays of the progress of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from recserver._internal.cli.output import console, error_console
from recserver._internal.core.clock import Clock
from recserver._internal.core.errors import escape
from recserver._internal.training.jobs import Progress

LINE_INTERVAL = 30.0
"""Seconds after which :class:`LineDisplay` prints a stage that lasts again."""

MAX_SHARE = 0.99
"""Where the bar waits when a run takes longer than the last one."""

MIN_SHARE = 0.1
"""The completed share from which on the remaining time is estimated without an earlier run."""

STAGE_SHARES = {
    "waiting": 0.0,
    "starting": 0.02,
    "reading": 0.20,
    "building": 0.05,
    "evaluating": 0.38,
    "fitting": 0.28,
    "packing": 0.04,
    "validating": 0.02,
    "publishing": 0.01,
}
"""The stages of a run in their order, and the approximate share of each in the time of a run."""

STAGES = tuple(STAGE_SHARES)


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
        """The completed share of the whole run, 0 to 1; None if it is unknown.

        By time, if an earlier run tells how long it takes, else by stages.
        """
        if self.eta_seconds is not None and self.elapsed_seconds is not None:
            total = self.elapsed_seconds + self.eta_seconds
            return min(MAX_SHARE, self.elapsed_seconds / total) if total > 0 else None
        of_stage = min(1.0, (self.iteration or 0) / self.iterations) if self.iterations else 0.0
        if self.stage not in STAGE_SHARES:
            return of_stage if self.iterations else None
        before = STAGES[: STAGES.index(self.stage)]
        return sum(STAGE_SHARES[stage] for stage in before) + of_stage * STAGE_SHARES[self.stage]

    @property
    def remaining_seconds(self) -> float | None:
        """The remaining time: by an earlier run, else by the completed share; None if it is unknown."""
        if self.eta_seconds is not None or self.elapsed_seconds is None:
            return self.eta_seconds
        share = self.share
        return self.elapsed_seconds * (1 / share - 1) if share is not None and share >= MIN_SHARE else None


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
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            console=on,
            transient=True,
        )
        self._task = self._bar.add_task("waiting", total=None, details="")
        self._share = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: RunProgress) -> None:
        """Redraw the bar, which never runs backwards."""
        seconds = progress.remaining_seconds
        remaining = f"about {format_duration(seconds)} left" if seconds else ""
        fields: dict[str, Any] = {
            "description": escape(progress.stage),
            "details": ", ".join(part for part in (remaining, progress.details) if part),
        }
        if progress.share is not None:
            self._share = max(self._share, progress.share)
            fields |= {"total": 1.0, "completed": self._share}
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
