"""Results of the operations on tasks."""

from __future__ import annotations

from typing import Any

from recserver._internal.results.base import OpenObject, Result


class AddedTask(Result, frozen=True, kw_only=True):
    """A new task."""

    message: str
    """One sentence for people."""
    task_name: str
    scheduled: bool
    """Whether the scheduler runs it."""
    next_run_at: str | None
    """When its next run is due; None if it is paused or the scheduler is stopped."""


class RemovedTask(Result, frozen=True, kw_only=True):
    """A task that was removed."""

    message: str
    """One sentence for people."""
    task_name: str


class ChangedInterval(Result, frozen=True, kw_only=True):
    """A task that has a new interval."""

    message: str
    """One sentence for people."""
    task_name: str
    interval: float
    """Seconds."""
    next_run_at: str | None
    """When its next run is due; None if it is paused or the scheduler is stopped."""


class EditedTask(Result, frozen=True, kw_only=True):
    """A task that was changed."""

    message: str
    """One sentence for people."""
    task_name: str
    next_run_at: str | None
    """When its next run is due; None if it is paused or the scheduler is stopped."""


class ChangedTask(Result, frozen=True, kw_only=True):
    """A task that was paused or resumed."""

    message: str
    """One sentence for people."""
    task_name: str
    enabled: bool


class TaskInfo(OpenObject, frozen=True, kw_only=True):
    """A task: its definition, and the state of its runs. Of an unusable file only ``last_error`` is certain."""

    running: bool
    """Whether a run is active or waits for a worker."""
    last_run_at: str | None
    last_status: str | None
    """The outcome of the last run, ``training`` while it is active, or ``skipped``."""
    last_error: str | None
    """Why the last run failed or was skipped, or why the file cannot be used."""
    next_run_at: str | None
    """The next run or retry; None if the task is paused or the scheduler is stopped."""
    last_run_id: str | None
    last_success_at: str | None
    """When a run was last completed or unchanged."""
    failing_since: str | None
    """Since when all runs have failed."""
    runs: int
    """Number of runs."""
    retries: int
    failures: int
    """Number of failed runs."""
    interrupted: int
    """Number of runs that were interrupted by the end of the server."""
    late: int
    """Number of runs that started more than a second late."""
    coalesced: int
    """Number of missed due times that were replaced by one run."""
    skipped: int
    """Number of due times at which no run could start."""
    data_report: dict[str, Any] | None
    """What the last run read."""
    last_warnings: list[str]
    """Warnings of the last run that completed, one sentence each."""
    task_name: str | None = None
    model_id: str | None = None
    interactions_data_chef_id: str | None = None
    user_features_data_chef_id: str | None = None
    item_features_data_chef_id: str | None = None
    interval: float | None = None
    """Seconds from one due time to the next."""
    schedule: str | None = None
    """A cron expression, which takes precedence over ``interval``."""
    timezone: str | None = None
    """The time zone of ``schedule``."""
    enabled: bool | None = None
    time_limit: float | None = None
    """Seconds that one training may take."""
    memory_limit: int | None = None
    """MiB that one training may use, beyond what an idle worker uses."""
    warnings: list[str] = []
    """Fields that have no effect, one sentence each."""
