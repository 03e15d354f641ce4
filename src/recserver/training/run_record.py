"""One run as the history keeps it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from itertools import count
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from recserver.training.run_outcome import RunOutcome


def run_id_prefix(moment: datetime) -> str:
    """What the ids of runs begin with that were given at ``moment``: they sort like the times of that."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03}"


def new_run_id(now: datetime) -> str:
    """An id that no other run has. Later ones of one process sort behind earlier ones, also in one instant."""
    return f"{run_id_prefix(now)}-{next(_COUNT) % 2**24:06x}{secrets.token_hex(3)}"


_COUNT = count()


class RunRecord(BaseModel):
    """What a run was asked to do, and what became of it."""

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
    """Of a run that a crash of the server cut off: when the next start found it."""
    seconds: float | None = None
    """None while it lasts, and for a run that was cut off: nobody saw when it ended."""
    error: str | None = None
    traceback_id: str | None = None
    """Where the log holds a traceback, what to search it for."""
    model_version: int | None = None
    """The version that was published."""
    stages: dict[str, float] = Field(default_factory=dict)
    """Seconds by stage."""
    data_report: dict[str, Any] | None = None
    algorithm: str | None = None
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Those of the model; once it has completed, all of them, as used."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
