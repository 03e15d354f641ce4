"""One training, from the order to its outcome: what is asked for, how far it is, and how it ended."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from recserver.chefs.chef_store import Entries
from recserver.core.clock import Clock
from recserver.core.errors import RecServerError, TrainingFailed, WorkerDied, os_error_text
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import StoredModel
from recserver.training.jobs import Progress
from recserver.training.run_record import RunRecord
from recserver.training.task import TaskSpec

INTERNAL_ERROR = "A fault in recserver: the server's log has the details."
"""The error of a run whose traceback the log holds."""


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What is to be run, and why.

    Attributes:
        run_id: of this run; see :func:`recserver.training.run_record.new_run_id`.
        task, model: as they were when the run was ordered.
        chefs: the entries of the data chefs that the task names, by id.
        trigger: ``schedule``, ``retry`` or ``run_task``.
        force: whether the new version serves whatever the quality gate says.
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
        """The entry of the data chef that tells the attributes of items, if the task names one."""
        chef = self.task.item_features_data_chef_id
        return None if chef is None else self.chefs[chef]

    @property
    def definition_digest(self) -> str:
        """A digest of everything people wrote that decides how a run ends."""
        config = self.model.config
        parts = [config["algorithm"], config["hyperparameters"], config["created_at"], self.interactions_chef]
        if self.item_features_chef is not None:
            parts.append(self.item_features_chef)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode(errors="replace")).hexdigest()

    @property
    def fit_if_unchanged(self) -> bool:
        """Whether unchanged data are learned from all the same."""
        return self.trigger == "run_task"


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a training ended: ``completed``, ``unchanged``, ``failed`` or ``stopped``.

    Attributes:
        error: why it failed, a sentence; of ``unchanged`` why the version of these data does not serve, if so.
        data_report: what was read of the source, where the training came so far.
        transient: whether what failed may be over in a moment; ``retry_after`` is how many seconds the source
            asks to wait, if it does.
        worker_died: whether its process went away.
        fault: whether the log holds a traceback of it.
        details: what else the history tells: algorithm, hyperparameters, metrics, warnings.
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
    """What a training comes to that is ended by an error."""
    if isinstance(error, TrainingFailed):
        return RunResult(
            "failed", str(error), data_report=error.data_report, transient=error.transient,
            retry_after=error.retry_after, worker_died=isinstance(error,
            WorkerDied), is_internal=error.is_internal,
        )  # fmt: skip
    if isinstance(error, RecServerError):
        return RunResult("failed", str(error))
    if isinstance(error, OSError):
        return RunResult("failed", f"The model could not be saved: {os_error_text(error)}.")
    return RunResult("failed", INTERNAL_ERROR, is_internal=True)


class RunLog(Protocol):
    """Where it is written down how one run begins and ends.

    What ``prepare_...`` saved is seen once ``begin`` or ``end`` is called, which awaits nothing: so the trainer
    can let it be seen together with the model's status.
    """

    record: RunRecord
    """The run, as far as can be seen."""

    async def prepare_begin(self) -> None:
        """Save that the run is under way."""
        ...

    def begin(self) -> None:
        """Let it be seen that the run is under way."""
        ...

    async def prepare_end(self, outcome: RunResult) -> None:
        """Save how the run ended."""
        ...

    def end(self, run: Run, outcome: RunResult) -> None:
        """Let it be seen how the run ended."""
        ...

    async def flush(self) -> None:
        """Save what came between ``prepare_...`` and its moment."""
        ...


class Run:
    """A training under way.

    Attributes:
        order: what it does.
        log: where it is written down.
        progress: how far it is.
        status: the model's, as long as the run is under way; None before it can be seen.
        begun: set when it can be seen that it is under way.
        outcome: set when everything about it has ended.
        started: when, in seconds of ``clock.monotonic()``.
        before: the model's status until then.
    """

    def __init__(self, request: TrainingRequest, log: RunLog, clock: Clock) -> None:
        self.request = request
        self.log = log
        self.progress = Progress(stage="waiting")
        self.status: ModelStatus | None = None
        self.begun = asyncio.Event()
        self.result: asyncio.Future[RunResult] = asyncio.Future()
        self.started = clock.monotonic()
        self.previous_status = ModelStatus(request.model.status)
        self._clock = clock
        self._stage_seconds: dict[str, float] = {}
        self._stage_since = self.started
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
        """It came further."""
        if progress.stage != self.progress.stage:
            self._end_stage()
        self.progress = progress

    def enter_stage(self, stage: str) -> None:
        """A stage begins of which no worker tells."""
        self.update_progress(Progress(stage=stage, rows_read=self.progress.rows_read))

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, up to now, in the order in which they began."""
        self._end_stage()
        return {stage: round(seconds, 3) for stage, seconds in self._stage_seconds.items()}

    def _end_stage(self) -> None:
        now, stage = self._clock.monotonic(), self.progress.stage
        self._stage_seconds[stage] = self._stage_seconds.get(stage, 0.0) + now - self._stage_since
        self._stage_since = now

    def stop(self) -> None:
        """Ask the training to end. What it does to end well, or to record how it ended, is not interrupted."""
        if not self._stop_requested and self._task is not None:
            self._task.cancel()
        self._stop_requested = True

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """The part of a training that :meth:`stop` ends, by cancelling it; at once if that was asked before."""
        if self._stop_requested:
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        try:
            yield
        finally:
            self._task = None
