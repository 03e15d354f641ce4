"""One run as the run history stores it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


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


def run_id_prefix(moment: datetime) -> str:
    """The beginning of the ids of runs created at ``moment``. Ids sort by time."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03}"


def new_run_id(now: datetime) -> str:
    """A unique id. Ids of one process sort in the order of creation, even within a millisecond."""
    return f"{run_id_prefix(now)}-{next(_COUNT) % 2**24:06x}{secrets.token_hex(3)}"


_COUNT = count()


class RunRecord(BaseModel):
    """The request and the result of a run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    task_name: str
    model_id: str
    data_chef_id: str
    trigger: str
    """``schedule``, ``retry`` or ``run_task``."""
    attempt: int = 1
    """1 for the first run of a period, 2 for its first retry."""
    outcome: str = RunOutcome.RUNNING.value
    started_at: str
    ended_at: str | None = None
    """For a run that a crash of the server ended: the time of the next start."""
    seconds: float | None = None
    """None while the run lasts, and for one that a crash of the server ended."""
    error: str | None = None
    traceback_id: str | None = None
    """What to search the log for, if it has a traceback."""
    model_version: int | None = None
    """The version that was published."""
    stages: dict[str, float] = Field(default_factory=dict)
    """Seconds by stage."""
    data_report: dict[str, Any] | None = None
    algorithm: str | None = None
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Those of the model; all of them, as used, once the run has completed."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
