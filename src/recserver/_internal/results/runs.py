"""Results of the operations on runs, and the record of a run."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from recserver._internal.results.base import Result, ResultObject


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


class RunSummary(ResultObject, frozen=True, kw_only=True, omit_defaults=False):
    """A run."""

    run_id: str
    """Ids sort by time."""
    task_name: str
    model_id: str
    data_chef_id: str
    trigger: str
    """``schedule``, ``retry`` or ``run_task``."""
    attempt: int = 1
    """1 for the first run of a period, 2 for its first retry."""
    outcome: str = RunOutcome.RUNNING.value
    """``running``, ``completed``, ``unchanged``, ``failed`` or ``stopped``."""
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


class RunRecord(RunSummary, frozen=True, kw_only=True):
    """The request and the result of a run."""

    stages: dict[str, float] = {}
    """Seconds by stage."""
    data_report: dict[str, Any] | None = None
    """What the run read: rows, rejected rows by reason, users, items, and more."""
    algorithm: str | None = None
    hyperparameters: dict[str, Any] = {}
    """Those of the model; all of them, as used, once the run has completed."""
    metrics: dict[str, Any] = {}
    warnings: list[str] = []
    """Of the training, one sentence each."""

    def summary(self) -> RunSummary:
        """The run without its details."""
        return RunSummary(**{name: getattr(self, name) for name in RunSummary.__struct_fields__})


class RunList(Result, frozen=True, kw_only=True):
    """Active and past runs."""

    data: list[RunSummary]
    """Newest first."""


class StartedRun(Result, frozen=True, kw_only=True):
    """A run that was started."""

    message: str
    """One sentence for people."""
    task_name: str
    model_id: str
    run_id: str


class StoppedTrainings(Result, frozen=True, kw_only=True):
    """The trainings that were stopped."""

    message: str
    """One sentence for people."""
    stopped_models: list[str]
    """Ids of their models; empty if none was being trained."""


class TrainingProgress(ResultObject, frozen=True, kw_only=True, omit_defaults=False):
    """The progress of a training; None where it is not known."""

    stage: str | None = None
    """``waiting`` (for a worker), ``starting``, ``reading``, ``evaluating``, ``fitting``, ``packing``,
    ``validating`` or ``publishing``."""
    rows_read: int | None = None
    iteration: int | None = None
    """Of the fit, where the algorithm reports it."""
    iterations: int | None = None
    loss: float | None = None
    queue_position: int | None = None
    """While waiting: 1 is next."""


class TrainingState(TrainingProgress, frozen=True, kw_only=True):
    """The status of a model, and the progress of its training; None where it is not known."""

    status: str
    """As in :class:`~recserver._internal.results.models.ModelInfo`."""
    elapsed_seconds: float | None = None
    eta_seconds: float | None = None
    """Expected remaining seconds, from the last completed run."""
    run_id: str | None = None
    task_name: str | None = None


class TrainingStatus(Result, frozen=True, kw_only=True):
    """The state of a model's training."""

    data: TrainingState
