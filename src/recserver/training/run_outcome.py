"""How a run ended. Nothing else is here, so that the command line can name the outcomes without delay."""

from __future__ import annotations

from enum import StrEnum


class RunOutcome(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    """It has not ended."""
    COMPLETED = "completed"
    """A new version serves."""
    UNCHANGED = "unchanged"
    """There was nothing new to learn."""
    FAILED = "failed"
    """See its error. The version before it serves on."""
    STOPPED = "stopped"
    """It was cancelled."""
