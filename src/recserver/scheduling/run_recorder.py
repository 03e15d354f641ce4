"""What is remembered and told of runs: the journal, the history, the log, and the events of tasks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recserver.core.clock import Clock, timestamp
from recserver.core.events import EventBus, RunSkipped, TaskFailing, TaskRecovered
from recserver.scheduling.run_history import RunHistory
from recserver.scheduling.task_state import TaskStateStore
from recserver.training.run import Run, RunResult, TrainingRequest
from recserver.training.run_record import RunRecord

logger = logging.getLogger(__name__)

LATE_AFTER_SECONDS = 1.0
"""Seconds that a run may begin after its due time without counting as late."""


@dataclass(frozen=True, slots=True)
class DueTime:
    """What a run of the schedule stands for: its due time by both clocks, and how many missed ones before it."""

    due: float
    wall_time: datetime
    coalesced: int


class RunRecorder:
    """Writes down each run as it begins and as it ends."""

    def __init__(self, *, task_state: TaskStateStore, history: RunHistory, clock: Clock, events: EventBus) -> None:
        self._task_state, self._history, self._clock, self._events = task_state, history, clock, events

    async def close_interrupted(self, error: str) -> None:
        """Record the runs that an earlier server did not see end as failed for ``error``."""
        for name in self._task_state.names:
            record = self._task_state.get(name)
            if record.last_status == "training":
                await self._task_state.update(
                    name,
                    last_status="failed",
                    last_error=error,
                    failing_since=record.failing_since or timestamp(self._clock.now()),
                    failures=record.failures + 1,
                    interrupted=record.interrupted + 1,
                )

    def open(self, order: TrainingRequest, period: DueTime | None) -> RunEntry:
        """The entry of a run that is about to begin; ``period`` is None if the schedule did not ask for it."""
        return RunEntry(
            order, period, journal=self._task_state, history=self._history, clock=self._clock, events=self._events
        )

    async def record_skipped(self, task_name: str, reason: str, *, running: bool) -> None:
        """Count a due time that met nothing that could run, and say why, once for each reason.

        Args:
            running: whether a run of the task is under way: how that one ends is what is told of the task.
        """
        before = self._task_state.get(task_name)
        known = (before.last_status, before.last_error) == ("skipped", reason)
        told = {} if running else {"last_status": "skipped", "last_error": reason}
        await self._task_state.update(task_name, skipped=before.skipped + 1, **told)
        self._events.publish(RunSkipped(task_name, reason))
        logger.log(logging.DEBUG if known else logging.WARNING, "run skipped: task %s: %s", task_name, reason)

    async def record_missed(self, task_name: str, due_times: int) -> None:
        """Count the due times that came while the task's own run was under way."""
        if due_times:
            before = self._task_state.get(task_name)
            await self._task_state.update(task_name, skipped=before.skipped + due_times)


class RunEntry:
    """One run in the journal and in the history: a :class:`~recserver.run.RunLog`."""

    def __init__(
        self,
        order: TrainingRequest,
        period: DueTime | None,
        *,
        journal: TaskStateStore,
        history: RunHistory,
        clock: Clock,
        events: EventBus,
    ) -> None:
        self._order, self._period, self._task_name = order, period, order.task.task_name
        self._journal, self._history, self._clock, self._events = journal, history, clock, events
        self._changes: dict[str, Any] = {}
        self._prepared: RunResult | None = None
        self.record = RunRecord(
            run_id=order.run_id,
            task_name=order.task.task_name,
            model_id=order.task.model_id,
            data_chef_id=order.task.interactions_data_chef_id,
            trigger=order.trigger,
            attempt=order.attempt,
            started_at=timestamp(self._clock.now()),
            algorithm=str(order.model.config["algorithm"]),
            hyperparameters=order.model.config["hyperparameters"],
        )

    async def prepare_begin(self) -> None:
        """Save that the run is under way."""
        record, order = self._journal.get(self._task_name), self._order
        self._changes = {
            "last_run_at": self.record.started_at,
            "last_status": "training",
            "last_error": None,
            "run_id": order.run_id,
            "definition": order.definition_digest,
            "runs": record.runs + 1,
            "retries": record.retries + (order.attempt > 1),
        }
        if self._period is not None:
            late = self._clock.monotonic() - self._period.due
            self._changes["last_due_at"] = timestamp(self._period.wall_time)
            self._changes["late"] = record.late + (order.attempt == 1 and late > LATE_AFTER_SECONDS)
            self._changes["coalesced"] = record.coalesced + self._period.coalesced
        await self._journal.prepare(self._task_name, **self._changes)

    def begin(self) -> None:
        """Let the journal and the history tell that the run is under way."""
        self._journal.note(self._task_name, **self._changes)
        self._history.add(self.record)

    async def prepare_end(self, outcome: RunResult) -> None:
        """Save how the run ended."""
        self._prepared, self._changes = outcome, self._ending(outcome)
        await self._journal.prepare(self._task_name, **self._changes)

    def end(self, run: Run, outcome: RunResult) -> None:
        """Let the journal and the history tell how it ended, and events whether its task fails or recovered."""
        now = timestamp(self._clock.now())
        self.record = _final_record(self.record, run, outcome, now)
        self._history.add(self.record)
        since = self._journal.get(self._task_name).failing_since
        changes = self._changes if outcome is self._prepared else self._ending(outcome)
        self._journal.note(self._task_name, **changes)
        if outcome.outcome == "failed" and since is None:
            self._events.publish(TaskFailing(self._task_name, str(outcome.error)))
            logger.error("task %s fails: %s", self._task_name, outcome.error)
        elif since is not None and "last_success_at" in changes:
            self._events.publish(TaskRecovered(self._task_name, since))
            logger.warning("task %s works again; it failed since %s", self._task_name, since)

    async def flush(self) -> None:
        """Save what came between the preparation and its moment."""
        await self._journal.flush()

    def _ending(self, outcome: RunResult) -> dict[str, Any]:
        """What the journal says after a run that ended like that."""
        before, now = self._journal.get(self._task_name), timestamp(self._clock.now())
        changes: dict[str, Any] = {
            "last_status": outcome.outcome,
            "last_error": outcome.error,
            "data_report": outcome.data_report,
            "crashes": before.crashes + 1 if outcome.worker_died else 0,
        }
        if outcome.outcome == "failed":
            changes |= {"failures": before.failures + 1, "failing_since": before.failing_since or now}
        elif outcome.outcome != "stopped" and outcome.error is None:
            changes |= {"last_success_at": now, "failing_since": None}
        return changes


def _final_record(record: RunRecord, run: Run, result: RunResult, now: str) -> RunRecord:
    """The record of a run with how it ended."""
    return record.model_copy(
        update={
            "outcome": result.outcome,
            "ended_at": now,
            "seconds": round(run.elapsed, 3),
            "error": result.error,
            "traceback_id": record.run_id if result.is_internal else None,
            "model_version": result.model_version,
            "stages": run.stage_seconds(),
            "data_report": result.data_report,
            **result.details,
        }
    )
