"""What is remembered and told of runs: the journal, the history, the log, and the events of tasks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recserver.core.clock import Clock, timestamp
from recserver.core.events import EventBus, RunSkipped, TaskFailing, TaskRecovered
from recserver.scheduling.run_history import History
from recserver.scheduling.run_record import RunRecord
from recserver.scheduling.task_state import Journal
from recserver.training.run import Order, Outcome, Run

logger = logging.getLogger(__name__)

PUNCTUAL = 1.0
"""Seconds that a run may begin after its due time without counting as late."""


@dataclass(frozen=True, slots=True)
class Period:
    """What a run of the schedule stands for: its due time by both clocks, and how many missed ones before it."""

    due: float
    met: datetime
    coalesced: int


class RunRecorder:
    """Writes down each run as it begins and as it ends."""

    def __init__(self, *, journal: Journal, history: History, clock: Clock, events: EventBus) -> None:
        self._journal, self._history, self._clock, self._events = journal, history, clock, events

    async def close_left_open(self, error: str) -> None:
        """Record the runs that an earlier server did not see end as failed for ``error``."""
        for name in self._journal.names:
            record = self._journal.get(name)
            if record.last_status == "training":
                await self._journal.update(
                    name,
                    last_status="failed",
                    last_error=error,
                    failing_since=record.failing_since or timestamp(self._clock.now()),
                    failures=record.failures + 1,
                    interrupted=record.interrupted + 1,
                )

    def opened(self, order: Order) -> RunRecord:
        """Record in the history that a run begins."""
        record = RunRecord(
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
        self._history.note(record)
        return record

    async def begun(self, order: Order, period: Period | None) -> None:
        """Record durably that a run is under way; ``period`` is None if the schedule did not ask for it."""
        record = self._journal.get(order.task.task_name)
        changes: dict[str, Any] = {}
        if period is not None:
            late = self._clock.monotonic() - period.due
            changes["last_due_at"] = timestamp(period.met)
            changes["late"] = record.late + (order.attempt == 1 and late > PUNCTUAL)
            changes["coalesced"] = record.coalesced + period.coalesced
        await self._journal.update(
            order.task.task_name,
            last_run_at=timestamp(self._clock.now()),
            last_status="training",
            last_error=None,
            run_id=order.run_id,
            definition=order.definition,
            runs=record.runs + 1,
            retries=record.retries + (order.attempt > 1),
            **changes,
        )

    async def ended(self, record: RunRecord, run: Run, outcome: Outcome) -> None:
        """Record how a run ended; say once that a task began to fail, and once that it does no longer."""
        now = timestamp(self._clock.now())
        self._history.note(_completed(record, run, outcome, now))
        before = self._journal.get(run.task_name)
        changes: dict[str, Any] = {"crashes": before.crashes + 1 if outcome.worker_died else 0}
        if outcome.kind == "failed":
            changes |= {"failures": before.failures + 1, "failing_since": before.failing_since or now}
            if before.failing_since is None:
                self._events.publish(TaskFailing(run.task_name, str(outcome.error)))
                logger.error("task %s fails: %s", run.task_name, outcome.error)
        elif outcome.kind != "stopped" and outcome.error is None:
            changes |= {"last_success_at": now, "failing_since": None}
            if before.failing_since is not None:
                self._events.publish(TaskRecovered(run.task_name, before.failing_since))
                logger.warning("task %s works again; it failed since %s", run.task_name, before.failing_since)
        await self._journal.update(
            run.task_name,
            last_status=outcome.kind,
            last_error=outcome.error,
            data_report=outcome.data_report,
            **changes,
        )

    async def skipped(self, task_name: str, reason: str, *, running: bool) -> None:
        """Count a due time that met nothing that could run, and say why, once for each reason.

        Args:
            running: whether a run of the task is under way: how that one ends is what is told of the task.
        """
        before = self._journal.get(task_name)
        known = (before.last_status, before.last_error) == ("skipped", reason)
        told = {} if running else {"last_status": "skipped", "last_error": reason}
        await self._journal.update(task_name, skipped=before.skipped + 1, **told)
        self._events.publish(RunSkipped(task_name, reason))
        logger.log(logging.DEBUG if known else logging.WARNING, "run skipped: task %s: %s", task_name, reason)

    async def missed(self, task_name: str, due_times: int) -> None:
        """Count the due times that came while the task's own run was under way."""
        if due_times:
            before = self._journal.get(task_name)
            await self._journal.update(task_name, skipped=before.skipped + due_times)


def _completed(record: RunRecord, run: Run, outcome: Outcome, now: str) -> RunRecord:
    """The record of a run with how it ended."""
    return record.model_copy(
        update={
            "outcome": outcome.kind,
            "ended_at": now,
            "seconds": round(run.elapsed, 3),
            "error": outcome.error,
            "traceback_id": record.run_id if outcome.fault else None,
            "model_version": outcome.model_version,
            "stages": run.stages(),
            "data_report": outcome.data_report,
            **outcome.details,
        }
    )
