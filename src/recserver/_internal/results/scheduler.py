"""Results of the operations on the scheduler, and of the health check."""

from __future__ import annotations

from typing import Literal

from recserver._internal.results.base import Result, ResultObject


class RestartedScheduler(Result, frozen=True, kw_only=True):
    """The scheduler after a restart."""

    message: str
    """One sentence for people."""
    is_running: bool
    tasks_scheduled: int
    """Number of tasks that it runs."""
    tasks_skipped: dict[str, str]
    """Names of the other tasks, and why they do not run."""


class StoppedScheduler(Result, frozen=True, kw_only=True):
    """The scheduler after it was stopped."""

    message: str
    """One sentence for people."""
    is_running: bool
    stopped_models: list[str]
    """Ids of the models whose trainings were cancelled."""


class SchedulerState(ResultObject, frozen=True, kw_only=True):
    """Whether the scheduler runs."""

    is_running: bool
    status: Literal["running", "stopped"]


class SchedulerStatus(Result, frozen=True, kw_only=True):
    """Whether the scheduler runs."""

    data: SchedulerState


class Health(Result, frozen=True, kw_only=True):
    """The server answers."""

    status: Literal["ok"]
    read_only: bool = False
    """Present, and true, on a server that changes nothing."""
