"""One training: its request, its progress and its result."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from recserver._internal.chefs.chef_store import Entries
from recserver._internal.core.clock import Clock
from recserver._internal.core.errors import RecServerError, TrainingFailed, WorkerDied, os_error_text
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import StoredModel
from recserver._internal.results.runs import RunRecord
from recserver._internal.training.jobs import Progress
from recserver._internal.training.stage_timer import StageTimer
from recserver._internal.training.task import TaskSpec

INTERNAL_ERROR = "Internal error of recserver: the server's log has the details."
"""The error of a run whose traceback the log holds."""


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """The request for a training.

    Attributes:
        run_id: of this run; see :func:`recserver._internal.training.run_ids.new_run_id`.
        task, model: as at the time of the request.
        chefs: the entries of the task's data chefs, by id.
        trigger: ``schedule``, ``retry`` or ``run_task``.
        force: whether the new version is promoted regardless of the quality gate.
        attempt: 1 for the first run of a period, 2 for its first retry.
    """

    run_id: str
    task: TaskSpec
    model: StoredModel
    chefs: Entries
    trigger: str = "schedule"
    attempt: int = 1
    force: bool = False

    @property
    def interactions_chef(self) -> dict[str, Any]:
        """The entry of the data chef that gives the interactions."""
        return self.chefs[self.task.interactions_data_chef_id]

    @property
    def item_features_chef(self) -> dict[str, Any] | None:
        """The entry of the data chef of item features, if the task names one."""
        chef = self.task.item_features_data_chef_id
        return None if chef is None else self.chefs[chef]

    @property
    def definition_digest(self) -> str:
        """A digest of the definitions that decide how a run ends."""
        config = self.model.config
        parts = [config["algorithm"], config["hyperparameters"], config["created_at"], self.interactions_chef]
        if self.item_features_chef is not None:
            parts.append(self.item_features_chef)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode(errors="replace")).hexdigest()

    @property
    def fit_if_unchanged(self) -> bool:
        """Whether to train even if the data have not changed."""
        return self.trigger == "run_task"


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a training ended: ``completed``, ``unchanged``, ``failed`` or ``stopped``.

    Attributes:
        error: why it failed, a sentence; if ``unchanged``, why the version of these data was not promoted.
        data_report: what was read of the source, if it was read.
        transient: whether a retry may succeed soon; ``retry_after`` is how many seconds the source asks to wait.
        worker_died: whether the worker process ended.
        is_internal: whether the log has a traceback of it.
        details: more for the history: hyperparameters, metrics, warnings.
    """

    outcome: str
    error: str | None = None
    model_version: int | None = None
    data_report: dict[str, Any] | None = None
    transient: bool = False
    retry_after: float | None = None
    worker_died: bool = False
    is_internal: bool = False
    details: dict[str, Any] = field(default_factory=dict)


def failure_of(error: Exception) -> RunResult:
    """The result of a training that raised ``error``."""
    if isinstance(error, TrainingFailed):
        return RunResult(
            "failed", str(error), data_report=error.data_report, transient=error.transient,
            retry_after=error.retry_after, worker_died=isinstance(error, WorkerDied),
            is_internal=error.is_internal,
        )  # fmt: skip
    if isinstance(error, RecServerError):
        return RunResult("failed", str(error))
    if isinstance(error, OSError):
        return RunResult("failed", f"The model could not be saved: {os_error_text(error)}.")
    return RunResult("failed", INTERNAL_ERROR, is_internal=True)


class RunLog(Protocol):
    """Records how one run begins and ends.

    What ``prepare_...`` saved becomes visible when ``begin`` or ``end`` is called. These do not await anything, so
    that the trainer can make it visible together with the model's status.
    """

    record: RunRecord
    """The run, as far as it is visible."""

    async def prepare_begin(self) -> None:
        """Save the beginning of the run."""

    def begin(self) -> None:
        """Make the beginning visible."""

    async def prepare_end(self, result: RunResult) -> None:
        """Save the end of the run."""

    def end(self, run: Run, result: RunResult) -> None:
        """Make the end visible."""

    async def flush(self) -> None:
        """Save what changed after ``prepare_...``."""


class Run:
    """A running training.

    Attributes:
        request: for this training.
        log: where it is recorded.
        progress: of the training.
        status: the model's during the run; None until its beginning is visible.
        visible: set when the start of the run is visible.
        result: set when all of it has ended.
        started: in seconds of ``clock.monotonic()``.
        previous_status: the model's status before the run.
        stages: the time of the stages so far.
    """

    def __init__(self, request: TrainingRequest, log: RunLog, clock: Clock) -> None:
        self.request = request
        self.log = log
        self.progress = Progress(stage="waiting")
        self.status: ModelStatus | None = None
        self.visible = asyncio.Event()
        self.result: asyncio.Future[RunResult] = asyncio.Future()
        self.started = clock.monotonic()
        self.previous_status = ModelStatus(request.model.status)
        self._clock = clock
        self.stages = StageTimer(clock)
        self.stages.begin(self.progress.stage)
        self._task: asyncio.Task[Any] | None = None
        self._stop_requested = False

    @property
    def task_name(self) -> str:
        return self.request.task.task_name

    @property
    def model_id(self) -> str:
        return self.request.task.model_id

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self._clock.monotonic() - self.started

    def update_progress(self, progress: Progress) -> None:
        """Set the progress, and measure the time of stages."""
        if progress.stage != self.progress.stage:
            self.stages.begin(progress.stage)
        self.progress = progress

    def stop(self) -> None:
        """Ask the training to end. Publishing and recording its end are not interrupted."""
        if not self._stop_requested and self._task is not None:
            self._task.cancel()
        self._stop_requested = True

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """The part of a training that :meth:`stop` cancels; at once if stopping was requested before."""
        if self._stop_requested:
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        try:
            yield
        finally:
            self._task = None
