"""Records runs: in the task state, the run history, the log and the events of tasks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recserver._internal.core.clock import Clock, timestamp
from recserver._internal.core.events import EventBus, RunSkipped, TaskFailing, TaskRecovered
from recserver._internal.results.runs import RunRecord
from recserver._internal.scheduling.run_history import RunHistory
from recserver._internal.scheduling.task_state import TaskStateStore
from recserver._internal.training.active_run import Run, RunResult, TrainingRequest

logger = logging.getLogger(__name__)

LATE_AFTER_SECONDS = 1.0
"""A run that begins later than this after its due time counts as late."""


@dataclass(frozen=True, slots=True)
class DueTime:
    """The due time of a scheduled run.

    Attributes:
        due: in seconds of ``clock.monotonic()``.
        wall_time: the same by the wall clock.
        coalesced: the number of missed due times before it, which the run replaces.
    """

    due: float
    wall_time: datetime
    coalesced: int


@dataclass(frozen=True, kw_only=True)
class RunRecorder:
    """Records each run as it begins and as it ends."""

    task_state: TaskStateStore
    history: RunHistory
    clock: Clock
    events: EventBus

    async def close_interrupted(self, error: str) -> None:
        """Record the runs that an earlier server left unfinished as failed, with ``error``."""
        for name in self.task_state.names:
            state = self.task_state.get(name)
            if state.last_status == "training":
                await self.task_state.update(
                    name,
                    last_status="failed",
                    last_error=error,
                    failing_since=state.failing_since or timestamp(self.clock.now()),
                    failures=state.failures + 1,
                    interrupted=state.interrupted + 1,
                )

    def open(self, request: TrainingRequest, due_time: DueTime | None) -> RunEntry:
        """The entry of a run that is about to begin; ``due_time`` is None if it was not scheduled."""
        return RunEntry(self, request, due_time)

    async def record_skipped(self, task_name: str, reason: str, *, running: bool) -> None:
        """Count a due time at which no run could begin. A repeated reason is logged at debug level only.

        Args:
            running: whether a run of the task is under way; then the task's last status is that run's.
        """
        state = self.task_state.get(task_name)
        is_repeated = (state.last_status, state.last_error) == ("skipped", reason)
        changes = {} if running else {"last_status": "skipped", "last_error": reason}
        await self.task_state.update(task_name, skipped=state.skipped + 1, **changes)
        self.events.publish(RunSkipped(task_name, reason))
        level = logging.DEBUG if is_repeated else logging.WARNING
        logger.log(level, "run skipped: task %s: %s", task_name, reason)

    async def record_missed(self, task_name: str, due_times: int) -> None:
        """Count the due times that passed during the task's own run."""
        if due_times:
            state = self.task_state.get(task_name)
            await self.task_state.update(task_name, skipped=state.skipped + due_times)


class RunEntry:
    """One run in the task state and the history: a :class:`~recserver._internal.training.active_run.RunLog`."""

    def __init__(self, recorder: RunRecorder, request: TrainingRequest, due_time: DueTime | None) -> None:
        self._recorder, self._request, self._due_time = recorder, request, due_time
        self._task_state, self._task_name = recorder.task_state, request.task.task_name
        self._changes: dict[str, Any] = {}
        self._prepared: RunResult | None = None
        self.record = RunRecord(
            run_id=request.run_id,
            task_name=request.task.task_name,
            model_id=request.task.model_id,
            data_chef_id=request.task.interactions_data_chef_id,
            trigger=request.trigger,
            attempt=request.attempt,
            started_at=timestamp(recorder.clock.now()),
            algorithm=str(request.model.config["algorithm"]),
            hyperparameters=request.model.config["hyperparameters"],
        )

    async def prepare_begin(self) -> None:
        """Save that the run is under way."""
        state, request, due_time = self._task_state.get(self._task_name), self._request, self._due_time
        self._changes = {
            "last_run_at": self.record.started_at,
            "last_status": "training",
            "last_error": None,
            "run_id": request.run_id,
            "definition": request.definition_digest,
            "runs": state.runs + 1,
            "retries": state.retries + (request.attempt > 1),
        }
        if due_time is not None:
            is_late = self._recorder.clock.monotonic() - due_time.due > LATE_AFTER_SECONDS
            self._changes |= {
                "last_due_at": timestamp(due_time.wall_time),
                "late": state.late + (request.attempt == 1 and is_late),
                "coalesced": state.coalesced + due_time.coalesced,
            }
        await self._task_state.prepare(self._task_name, **self._changes)

    def begin(self) -> None:
        """Show in the task state and the history that the run is under way."""
        self._task_state.note(self._task_name, **self._changes)
        self._recorder.history.add(self.record)

    async def prepare_end(self, result: RunResult) -> None:
        """Save how the run ended."""
        self._prepared, self._changes = result, self._end_changes(result)
        await self._task_state.prepare(self._task_name, **self._changes)

    def end(self, run: Run, result: RunResult) -> None:
        """Show how the run ended, and publish if its task starts to fail or recovers."""
        name, events = self._task_name, self._recorder.events
        self.record = _final_record(self.record, run, result, timestamp(self._recorder.clock.now()))
        self._recorder.history.add(self.record)
        failing_since = self._task_state.get(name).failing_since
        changes = self._changes if result is self._prepared else self._end_changes(result)
        self._task_state.note(name, **changes)
        if result.outcome == "failed" and failing_since is None:
            events.publish(TaskFailing(name, str(result.error)))
            logger.error("task %s fails: %s", name, result.error)
        elif failing_since is not None and "last_success_at" in changes:
            events.publish(TaskRecovered(name, failing_since))
            logger.warning("task %s works again; it failed since %s", name, failing_since)

    async def flush(self) -> None:
        """Save what changed between a preparation and its ``begin`` or ``end``."""
        await self._task_state.flush()

    def _end_changes(self, result: RunResult) -> dict[str, Any]:
        """The changes of the task state after a run that ended with ``result``."""
        state, now = self._task_state.get(self._task_name), timestamp(self._recorder.clock.now())
        changes: dict[str, Any] = {
            "last_status": result.outcome,
            "last_error": result.error,
            "data_report": result.data_report,
            "crashes": state.crashes + 1 if result.worker_died else 0,
        }
        if result.outcome == "failed":
            changes |= {"failures": state.failures + 1, "failing_since": state.failing_since or now}
        elif result.outcome != "stopped" and result.error is None:
            changes |= {"last_success_at": now, "failing_since": None}
        if result.outcome == "completed":
            changes["last_warnings"] = list(result.details.get("warnings", ()))
        return changes


def _final_record(record: RunRecord, run: Run, result: RunResult, now: str) -> RunRecord:
    return record.replace(
        outcome=result.outcome,
        ended_at=now,
        seconds=round(run.elapsed, 3),
        error=result.error,
        traceback_id=record.run_id if result.is_internal else None,
        model_version=result.model_version,
        stages=run.stages.end(),
        data_report=result.data_report,
        **result.details,
    )
