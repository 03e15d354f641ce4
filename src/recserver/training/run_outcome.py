"""The outcomes of runs, in a small module that the command line can import quickly."""

from __future__ import annotations

from enum import StrEnum


class RunOutcome(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    """The run has not ended."""
    COMPLETED = "completed"
    """A new version was stored."""
    UNCHANGED = "unchanged"
    """The data and hyperparameters have not changed."""
    FAILED = "failed"
    """See its error. The previous version keeps serving."""
    STOPPED = "stopped"
    """It was cancelled."""
