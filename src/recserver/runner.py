"""What the scheduler's loops do: one run of a task, from its due time to its record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zlib import crc32

from recserver.catalog import Catalog
from recserver.clock import Clock, parse_timestamp, timestamp
from recserver.errors import DataChefNotFound, InvalidInput, ModelBusy, ModelNotFound, StorageUnreadable, shown
from recserver.events import EventBus, RunSkipped, TaskFailing, TaskRecovered
from recserver.history import History
from recserver.loop import TaskLoop
from recserver.run import Order, Outcome, Run
from recserver.schedule import Schedule
from recserver.specs.runs import RunRecord, new_run_id
from recserver.specs.tasks import TaskSpec
from recserver.store.chefs import ChefStore
from recserver.store.journal import Journal
from recserver.store.models import ModelStore, StoredModel
from recserver.store.tasks import TaskStore
from recserver.trainer import INTERRUPTED, Trainer

logger = logging.getLogger(__name__)

TRIES = 3
"""Runs in one period, the first included, while what fails may be over in a moment."""

FIRST_WAIT, LONGEST_WAIT = 5.0, 300.0
"""Seconds. The second attempt waits for up to twice the first number, the third for up to four times."""

MOST_CRASHES = 3
"""Worker processes that died one after the other; then a task is tried once in each period only."""

BUSY_WAIT = 5.0
"""Seconds after which another attempt looks again whether the model is free."""

PUNCTUAL = 1.0
"""Seconds that a run may begin after its due time without counting as late."""

MANY_TASKS = 10
LONGEST_SPREAD = 5.0


@dataclass(frozen=True, slots=True)
class Period:
    """What a run of the schedule stands for: its due time by both clocks, and how many missed ones before it."""

    due: float
    met: datetime
    coalesced: int


class TaskRunner:
    """Runs tasks, and knows when each is due first."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        models: ModelStore,
        chefs: ChefStore,
        journal: Journal,
        history: History,
        trainer: Trainer,
        catalog: Catalog,
        clock: Clock,
        events: EventBus,
        lot: random.Random | None = None,
    ) -> None:
        """
        Args:
            lot: draws the waits before further attempts; for tests.
        """
        self._history, self._lot = history, lot or random.Random()  # noqa: S311 - no secret
        self._tasks, self._models, self._chefs, self._journal = tasks, models, chefs, journal
        self._trainer, self._catalog, self._clock, self._events = trainer, catalog, clock, events

    async def recover(self) -> None:
        """Close the records of runs that a killed server left open, and remove its litter."""
        await self._tasks.clear_temporaries()
        await self._chefs.clear_temporaries()
        for name in self._journal.names:
            record = self._journal.get(name)
            if record.last_status == "training":
                now = timestamp(self._clock.now())
                await self._journal.update(
                    name,
                    last_status="failed",
                    last_error=INTERRUPTED,
                    failing_since=record.failing_since or now,
                    failures=record.failures + 1,
                    interrupted=record.interrupted + 1,
                )

    async def wanted(self) -> Mapping[str, TaskSpec | InvalidInput]:
        """Every task as its file describes it now."""
        found = {}
        for name in await self._tasks.names():
            try:
                found[name] = await self._tasks.spec(name)
            except FileNotFoundError:
                continue
        return found

    async def first_due(self, spec: TaskSpec, schedule: Schedule) -> float:
        """When a task is due first: now if its model cannot serve, else as its schedule goes on.

        Where many tasks are overdue together, as after a downtime, they are spread over some seconds.
        """
        now = self._clock.monotonic()
        try:
            model = await self._models.read(spec.model_id)
        except ModelNotFound:
            return now
        if await self._catalog.needs_training(model):
            return now
        last = parse_timestamp(self._journal.get(spec.task_name).last_due_at)
        last = last or parse_timestamp(model.config.get("training_completed_at"))
        due = schedule.first(last, self._clock)
        if due > now or spec.interval is None or len(await self._tasks.names()) < MANY_TASKS:
            return due
        return now + spread(spec.task_name) * min(LONGEST_SPREAD, spec.interval / 10)

    async def obstacle(self, spec: TaskSpec) -> str | None:
        """Why the task cannot run now: its model or a data chef is missing. None if nothing is."""
        if spec.model_id not in await self._models.ids():
            return f"Model {shown(spec.model_id)} does not exist: create it, or remove this task."
        try:
            known = await self._chefs.read()
        except StorageUnreadable as error:
            return str(error)
        missing = [chef for chef in spec.chef_ids() if chef not in known]
        if missing:
            return f"Data chef {shown(missing[0])} does not exist: create it, or remove this task."
        return None

    async def fire(self, loop: TaskLoop, due: float, attempt: int) -> float | None:
        """Run a loop's task once, for the due time given, unless something is in the way.

        Returns:
            Seconds after which another attempt may help; None if none would.
        """
        spec = loop.spec
        if attempt > 1 and self._journal.get(spec.task_name).failing_since is None:
            return None  # a run by hand has ended well meanwhile
        reason = loop.blocked = await self.obstacle(spec)
        if reason is not None:
            await self._skip(spec.task_name, reason)
            return None
        model = await self._models.read(spec.model_id)
        definition = await self._definition(spec, model)
        if (reason := self._busy(spec)) is not None:
            if attempt > 1:  # it is no due time that is missed, and the attempt is still to be made
                return BUSY_WAIT
            await self._skip(spec.task_name, reason)
            return None
        order = Order(self._new_id(), spec, "schedule" if attempt == 1 else "retry", attempt)
        period = Period(due, loop.schedule.met(due, self._clock), loop.coalesced if attempt == 1 else 0)
        loop.attempts = attempt
        run = await self._begin(order, model, definition, period)
        outcome = await asyncio.shield(run.outcome)
        if missed := loop.skip_missed():
            record = self._journal.get(spec.task_name)
            await self._journal.update(spec.task_name, skipped=record.skipped + missed)
        return self._patience(outcome, order)

    async def run_now(self, spec: TaskSpec) -> Run:
        """Begin a run of a task at once, whatever its schedule and the scheduler say.

        Raises:
            ModelNotFound, DataChefNotFound: if what the task names is missing.
            ModelBusy: if the model is being trained.
        """
        model = await self._models.read(spec.model_id)
        known = await self._chefs.read()
        for chef in spec.chef_ids():
            if chef not in known:
                raise DataChefNotFound(chef)
        definition = await self._definition(spec, model)
        if (reason := self._busy(spec)) is not None:
            raise ModelBusy(f"{reason} Wait for that to end.")
        return await self._begin(Order(self._new_id(), spec, "run_task"), model, definition)

    def _busy(self, spec: TaskSpec) -> str | None:
        """Why no run of the task can begin now: its model is in use, or the model that was its own before."""
        if reason := self._trainer.obstacle(spec.model_id):
            return reason
        return next((self._trainer.obstacle(run.model_id) for run in self.runs_of(spec.task_name)), None)

    async def _begin(self, order: Order, model: StoredModel, definition: str, period: Period | None = None) -> Run:
        record = RunRecord(
            run_id=order.run_id,
            task_name=order.task.task_name,
            model_id=order.task.model_id,
            data_chef_id=order.task.interactions_data_chef_id,
            trigger=order.trigger,
            attempt=order.attempt,
            started_at=timestamp(self._clock.now()),
            algorithm=str(model.config["algorithm"]),
            hyperparameters=model.config["hyperparameters"],
        )

        async def note_end(outcome: Outcome) -> None:
            self._history.note(ended(record, run, outcome, timestamp(self._clock.now())))
            await self._note_end(order, outcome)

        run = self._trainer.start(order, note_end)
        self._history.note(record)
        await self._note_start(order, definition, period)
        return run

    def _patience(self, outcome: Outcome, order: Order) -> float | None:
        """Seconds before another attempt, if one may help, drawn by lot so that tasks do not come together."""
        crashes = self._journal.get(order.task.task_name).crashes
        if not outcome.transient or order.attempt >= TRIES or crashes >= MOST_CRASHES:
            return None
        if outcome.retry_after is not None:
            return outcome.retry_after
        return self._lot.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**order.attempt))

    def _new_id(self) -> str:
        return new_run_id(self._clock.now())

    def runs_of(self, task_name: str) -> list[Run]:
        """The runs of a task that are under way: one or none."""
        return [run for run in self._trainer.runs.values() if run.task_name == task_name]

    async def retire(self, task_name: str) -> None:
        """End the run, and forget the past, of a task that is gone or has become another."""
        await self._trainer.stop(self.runs_of(task_name))
        await self._journal.forget(task_name)

    async def corrected(self, spec: TaskSpec) -> bool:
        """Whether a task whose model has nothing to serve was given another definition since its last run."""
        tried = self._journal.get(spec.task_name).definition
        if tried is None or self._catalog.in_memory(spec.model_id) or self.runs_of(spec.task_name):
            return False
        try:
            model = await self._models.read(spec.model_id)
            untrained = await self._catalog.needs_training(model) is not None
            return untrained and tried != await self._definition(spec, model)
        except (ModelNotFound, StorageUnreadable):
            return False

    async def _definition(self, spec: TaskSpec, model: StoredModel) -> str:
        """A digest of everything people wrote that decides how a run ends."""
        config = model.config
        chef = (await self._chefs.read()).get(spec.interactions_data_chef_id)
        parts = [config["algorithm"], config["hyperparameters"], config["created_at"], chef]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode(errors="replace")).hexdigest()

    async def _note_start(self, order: Order, definition: str, period: Period | None) -> None:
        now = self._clock.now()
        record = self._journal.get(order.task.task_name)
        changes: dict[str, Any] = {}
        if period is not None:
            late = self._clock.monotonic() - period.due
            changes["last_due_at"] = timestamp(period.met)
            changes["late"] = record.late + (order.attempt == 1 and late > PUNCTUAL)
            changes["coalesced"] = record.coalesced + period.coalesced
        await self._journal.update(
            order.task.task_name,
            last_run_at=timestamp(now),
            last_status="training",
            last_error=None,
            run_id=order.run_id,
            definition=definition,
            runs=record.runs + 1,
            retries=record.retries + (order.attempt > 1),
            **changes,
        )

    async def _note_end(self, order: Order, outcome: Outcome) -> None:
        """Record how a run ended; say once that a task began to fail, and once that it does no longer."""
        task_name = order.task.task_name
        record, now = self._journal.get(task_name), timestamp(self._clock.now())
        changes: dict[str, Any] = {"crashes": record.crashes + 1 if outcome.worker_died else 0}
        if outcome.kind == "failed":
            changes |= {"failures": record.failures + 1, "failing_since": record.failing_since or now}
            if record.failing_since is None:
                self._events.publish(TaskFailing(task_name, str(outcome.error)))
                logger.error("task %s fails: %s", task_name, outcome.error)
        elif outcome.kind != "stopped":
            changes |= {"last_success_at": now, "failing_since": None}
            if record.failing_since is not None:
                self._events.publish(TaskRecovered(task_name, record.failing_since))
                logger.warning("task %s works again; it failed since %s", task_name, record.failing_since)
        await self._journal.update(
            task_name,
            last_status=outcome.kind,
            last_error=outcome.error,
            data_report=outcome.data_report,
            **changes,
        )

    async def _skip(self, task_name: str, reason: str) -> None:
        skipped = self._journal.get(task_name).skipped + 1
        told = {"last_status": "skipped", "last_error": reason}
        if self.runs_of(task_name):  # how that one ends is still to be told
            told = {}
        await self._journal.update(task_name, skipped=skipped, **told)
        self._events.publish(RunSkipped(task_name, reason))
        logger.warning("run skipped: task %s: %s", task_name, reason)


def spread(task_name: str) -> float:
    """A number from 0 to 1 that is always the same for a task, and another for another."""
    return crc32(task_name.encode()) / 2**32


def ended(record: RunRecord, run: Run, outcome: Outcome, now: str) -> RunRecord:
    """The record of a run, completed by how it ended."""
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
