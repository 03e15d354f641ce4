"""What the scheduler's loops do: one run of a task, from its due time to its record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from zlib import crc32

from recserver.chefs.chef_store import ChefStore
from recserver.core.clock import Clock, parse_timestamp
from recserver.core.errors import (
    DataChefNotFound,
    InvalidInput,
    ModelBusy,
    ModelNotFound,
    StorageUnreadable,
    shown,
)
from recserver.registry.model_cache import Catalog
from recserver.registry.model_store import ModelStore
from recserver.scheduling.retries import seconds_before_retry
from recserver.scheduling.run_recorder import Period, RunRecorder
from recserver.scheduling.task_loop import TaskLoop
from recserver.scheduling.task_state import Journal
from recserver.scheduling.triggers import Schedule
from recserver.training.run import Order, Outcome, Run
from recserver.training.run_record import new_run_id
from recserver.training.task import TaskSpec
from recserver.training.task_store import TaskStore
from recserver.training.trainer import INTERRUPTED, Trainer

BUSY_WAIT = 5.0
"""Seconds after which another attempt looks again whether the model is free."""

MANY_TASKS = 10
LONGEST_SPREAD = 5.0


class TaskRunner:
    """Runs tasks, and knows when each is due first."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        models: ModelStore,
        chefs: ChefStore,
        journal: Journal,
        recorder: RunRecorder,
        trainer: Trainer,
        catalog: Catalog,
        clock: Clock,
        lot: random.Random | None = None,
    ) -> None:
        """
        Args:
            lot: draws the waits before further attempts; for tests.
        """
        self._tasks, self._models, self._chefs, self._journal = tasks, models, chefs, journal
        self._recorder, self._trainer, self._catalog, self._clock = recorder, trainer, catalog, clock
        self._lot = lot or random.Random()  # noqa: S311 - no secret

    async def recover(self) -> None:
        """Close the records of runs that a killed server left open, and remove its litter."""
        await self._tasks.clear_temporaries()
        await self._chefs.clear_temporaries()
        await self._recorder.close_left_open(INTERRUPTED)

    async def wanted(self) -> Mapping[str, TaskSpec | InvalidInput]:
        """Every task as its file describes it now, or why that cannot be used."""
        return await self._tasks.all()

    async def first_due(self, spec: TaskSpec, schedule: Schedule, *, edited: bool = False) -> float:
        """When a task is due first: now if its model cannot serve, else as its schedule goes on.

        Where many tasks are overdue together, as after a downtime, they are spread over some seconds.

        Args:
            edited: whether the task had another schedule before; moments that a new cron expression names
                in the past were never promised, and are not made up for.
        """
        now = self._clock.monotonic()
        try:
            model = await self._models.read(spec.model_id)
        except ModelNotFound:
            return now
        runs = edited and self.runs_of(spec.task_name)
        if not runs and await self._catalog.needs_training(model):
            return now
        last = parse_timestamp(self._journal.get(spec.task_name).last_due_at)
        last = last or parse_timestamp(model.config.get("training_completed_at"))
        if edited and spec.schedule is not None:
            last = self._clock.now()
        due = schedule.first(last, self._clock)
        if due > now or spec.interval is None or len(await self._tasks.names()) < MANY_TASKS:
            return due
        return now + spread(spec.task_name) * min(LONGEST_SPREAD, spec.interval / 10)

    async def obstacle(self, spec: TaskSpec) -> str | None:
        """Why the task cannot run now: its model or a data chef is missing. None if nothing is."""
        order = await self._order_or_obstacle(spec)
        return order if isinstance(order, str) else None

    async def fire(self, loop: TaskLoop, due: float, attempt: int) -> float | None:
        """Run a loop's task once, for the due time given, unless something is in the way.

        Returns:
            Seconds after which another attempt may help; None if none would.
        """
        spec, name = loop.spec, loop.spec.task_name
        if attempt > 1 and self._journal.get(name).run_id != loop.last_run:
            return None  # a run by hand has come between, and told more than another attempt would
        order = await self._order_or_obstacle(spec, "schedule" if attempt == 1 else "retry", attempt)
        loop.blocked = order if isinstance(order, str) else None
        reason = loop.blocked or self._busy(spec)
        if isinstance(order, str) or reason is not None:
            if attempt > 1 and not loop.blocked:  # it is no due time that is missed, and it is still to be made
                return BUSY_WAIT
            await self._recorder.skipped(name, str(reason), running=bool(self.runs_of(name)))
            return None
        period = Period(due, loop.schedule.met(due, self._clock), loop.coalesced if attempt == 1 else 0)
        loop.attempts, loop.last_run = attempt, order.run_id
        run = await self._begin(order, period)
        outcome = await asyncio.shield(run.outcome)
        await self._recorder.missed(name, loop.skip_missed())
        return self._patience(outcome, order)

    async def run_now(self, spec: TaskSpec, *, force: bool = False) -> Run:
        """Begin a run of a task at once, whatever its schedule and the scheduler say.

        Args:
            force: whether the new version is to serve even if the quality gate would refuse it.

        Raises:
            ModelNotFound, DataChefNotFound: if what the task names is missing.
            ModelBusy: if the model is being trained.
        """
        order = await self._order(spec, "run_task", force=force)
        if (reason := self._busy(spec)) is not None:
            raise ModelBusy(f"{reason} Wait for that to end.")
        return await self._begin(order)

    async def run_or_join(self, spec: TaskSpec, *, force: bool = False) -> Run:
        """The run of a task that is under way and does what is asked for, else a new one, as :meth:`run_now`.

        Raises:
            ModelNotFound, DataChefNotFound: if what the task names is missing.
            ModelBusy: if the model is being trained otherwise.
        """
        await self._models.read(spec.model_id)  # a run that is about to end is not joined, but followed by another
        for run in self.runs_of(spec.task_name):
            if run.model_id == spec.model_id and run.order.force >= force:
                await run.begun.wait()
                return run
        return await self.run_now(spec, force=force)

    async def _order_or_obstacle(self, spec: TaskSpec, trigger: str = "schedule", attempt: int = 1) -> Order | str:
        try:
            return await self._order(spec, trigger, attempt)
        except ModelNotFound:
            return f"Model {shown(spec.model_id)} does not exist: create it, or remove this task."
        except DataChefNotFound as missing:
            return f"Data chef {shown(missing.data_chef_id)} does not exist: create it, or remove this task."
        except StorageUnreadable as error:
            return str(error)

    async def _order(self, spec: TaskSpec, trigger: str, attempt: int = 1, *, force: bool = False) -> Order:
        """What is to be run, as it is defined now.

        Nothing may be awaited between this and the start of the training: then no change of the model by a
        request falls in between.

        Raises:
            ModelNotFound, DataChefNotFound: if what the task names is missing.
            StorageUnreadable: if the data chefs cannot be read.
        """
        known = await self._chefs.read()
        model = await self._models.read(spec.model_id)
        for chef in spec.chef_ids():
            if chef not in known:
                raise DataChefNotFound(chef)
        chefs = {name: known[name] for name in spec.chef_ids()}
        return Order(new_run_id(self._clock.now()), spec, model, chefs, trigger, attempt, force)

    def _busy(self, spec: TaskSpec) -> str | None:
        """Why no run of the task can begin now: its model is in use, or the model that was its own before."""
        if reason := self._trainer.obstacle(spec.model_id):
            return reason
        return next((self._trainer.obstacle(run.model_id) for run in self.runs_of(spec.task_name)), None)

    async def _begin(self, order: Order, period: Period | None = None) -> Run:
        """Begin a run; it can be seen that it is under way when this returns."""
        run = self._trainer.start(order, self._recorder.open(order, period))
        await run.begun.wait()
        return run

    def _patience(self, outcome: Outcome, order: Order) -> float | None:
        crashes = self._journal.get(order.task.task_name).crashes
        return seconds_before_retry(outcome, order.attempt, crashes, self._lot)

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
        order = await self._order_or_obstacle(spec)
        if isinstance(order, str) or await self._catalog.needs_training(order.model) is None:
            return False
        return tried != order.definition


def spread(task_name: str) -> float:
    """A number from 0 to 1 that is always the same for a task, and another for another."""
    return crc32(task_name.encode()) / 2**32
