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
    quoted,
)
from recserver.registry.model_cache import ModelCache
from recserver.registry.model_store import ModelStore
from recserver.scheduling.retries import seconds_before_retry
from recserver.scheduling.run_recorder import DueTime, RunRecorder
from recserver.scheduling.task_loop import TaskLoop
from recserver.scheduling.task_state import TaskStateStore
from recserver.scheduling.triggers import Trigger
from recserver.storage.atomic_files import remove_temporaries
from recserver.training.run import Run, RunResult, TrainingRequest
from recserver.training.run_record import new_run_id
from recserver.training.task import TaskSpec
from recserver.training.task_store import TaskStore
from recserver.training.trainer import INTERRUPTED, Trainer

BUSY_RETRY_DELAY = 5.0
"""Seconds after which another attempt looks again whether the model is free."""

JITTER_MIN_TASKS = 10
MAX_JITTER = 5.0


class TaskRunner:
    """Runs tasks, and knows when each is due first."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        models: ModelStore,
        chefs: ChefStore,
        task_state: TaskStateStore,
        recorder: RunRecorder,
        trainer: Trainer,
        model_cache: ModelCache,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        """
        Args:
            lot: draws the waits before further attempts; for tests.
        """
        self._tasks, self._models, self._chefs, self._task_state = tasks, models, chefs, task_state
        self._recorder, self._trainer, self._model_cache, self._clock = recorder, trainer, model_cache, clock
        self._rng = rng or random.Random()  # noqa: S311 - no secret

    async def recover(self) -> None:
        """Close the records of runs that a killed server left open, and remove its litter."""
        for folder in (self._tasks.folder, self._chefs.path.parent):
            await asyncio.to_thread(remove_temporaries, folder)
        await self._recorder.close_interrupted(INTERRUPTED)

    async def read_tasks(self) -> Mapping[str, TaskSpec | InvalidInput]:
        """Every task as its file describes it now, or why that cannot be used."""
        return await self._tasks.read_all()

    async def first_due(self, spec: TaskSpec, trigger: Trigger, *, edited: bool = False) -> float:
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
        runs = edited and self.active_runs(spec.task_name)
        if not runs and await self._model_cache.unavailable_reason(model):
            return now
        last = parse_timestamp(self._task_state.get(spec.task_name).last_due_at)
        last = last or parse_timestamp(model.config.get("training_completed_at"))
        if edited and spec.schedule is not None:
            last = self._clock.now()
        due = trigger.first_due(last, self._clock)
        if due > now or spec.interval is None or len(await self._tasks.names()) < JITTER_MIN_TASKS:
            return due
        return now + jitter(spec.task_name) * min(MAX_JITTER, spec.interval / 10)

    async def blocking_reason(self, spec: TaskSpec) -> str | None:
        """Why the task cannot run now: its model or a data chef is missing. None if nothing is."""
        order = await self._request_or_reason(spec)
        return order if isinstance(order, str) else None

    async def fire(self, loop: TaskLoop, due: float, attempt: int) -> float | None:
        """Run a loop's task once, for the due time given, unless something is in the way.

        Returns:
            Seconds after which another attempt may help; None if none would.
        """
        spec, name = loop.spec, loop.spec.task_name
        if attempt > 1 and self._task_state.get(name).run_id != loop.last_run_id:
            return None  # a run by hand has come between, and told more than another attempt would
        order = await self._request_or_reason(spec, "schedule" if attempt == 1 else "retry", attempt)
        loop.blocking_reason = order if isinstance(order, str) else None
        reason = loop.blocking_reason or self._busy_reason(spec)
        if isinstance(order, str) or reason is not None:
            if (
                attempt > 1 and not loop.blocking_reason
            ):  # it is no due time that is missed, and it is still to be made
                return BUSY_RETRY_DELAY
            await self._recorder.record_skipped(name, str(reason), running=bool(self.active_runs(name)))
            return None
        period = DueTime(due, loop.trigger.wall_time(due, self._clock), loop.coalesced if attempt == 1 else 0)
        loop.attempts, loop.last_run_id = attempt, order.run_id
        run = await self._start(order, period)
        outcome = await asyncio.shield(run.result)
        await self._recorder.record_missed(name, loop.skip_missed())
        return self._retry_delay(outcome, order)

    async def run_now(self, spec: TaskSpec, *, force: bool = False) -> Run:
        """Begin a run of a task at once, whatever its schedule and the scheduler say.

        Args:
            force: whether the new version is to serve even if the quality gate would refuse it.

        Raises:
            ModelNotFound, DataChefNotFound: if what the task names is missing.
            ModelBusy: if the model is being trained.
        """
        order = await self._request(spec, "run_task", force=force)
        if (reason := self._busy_reason(spec)) is not None:
            raise ModelBusy(f"{reason} Wait for that to end.")
        return await self._start(order)

    async def run_or_join(self, spec: TaskSpec, *, force: bool = False) -> Run:
        """The run of a task that is under way and does what is asked for, else a new one, as :meth:`run_now`.

        Raises:
            ModelNotFound, DataChefNotFound: if what the task names is missing.
            ModelBusy: if the model is being trained otherwise.
        """
        await self._models.read(spec.model_id)  # a run that is about to end is not joined, but followed by another
        for run in self.active_runs(spec.task_name):
            if run.model_id == spec.model_id and run.request.force >= force:
                await run.begun.wait()
                return run
        return await self.run_now(spec, force=force)

    async def _request_or_reason(
        self, spec: TaskSpec, trigger: str = "schedule", attempt: int = 1
    ) -> TrainingRequest | str:
        try:
            return await self._request(spec, trigger, attempt)
        except ModelNotFound:
            return f"Model {quoted(spec.model_id)} does not exist: create it, or remove this task."
        except DataChefNotFound as missing:
            return f"Data chef {quoted(missing.ids[0])} does not exist: create it, or remove this task."
        except StorageUnreadable as error:
            return str(error)

    async def _request(
        self, spec: TaskSpec, trigger: str, attempt: int = 1, *, force: bool = False
    ) -> TrainingRequest:
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
        return TrainingRequest(new_run_id(self._clock.now()), spec, model, chefs, trigger, attempt, force)

    def _busy_reason(self, spec: TaskSpec) -> str | None:
        """Why no run of the task can begin now: its model is in use, or the model that was its own before."""
        if reason := self._trainer.blocking_reason(spec.model_id):
            return reason
        return next(
            (self._trainer.blocking_reason(run.model_id) for run in self.active_runs(spec.task_name)), None
        )

    async def _start(self, request: TrainingRequest, due_time: DueTime | None = None) -> Run:
        """Begin a run; it can be seen that it is under way when this returns."""
        run = self._trainer.start(request, self._recorder.open(request, due_time))
        await run.begun.wait()
        return run

    def _retry_delay(self, result: RunResult, request: TrainingRequest) -> float | None:
        crashes = self._task_state.get(request.task.task_name).crashes
        return seconds_before_retry(result, request.attempt, crashes, self._rng)

    def active_runs(self, task_name: str) -> list[Run]:
        """The runs of a task that are under way: one or none."""
        return [run for run in self._trainer.runs.values() if run.task_name == task_name]

    async def discard_task(self, task_name: str) -> None:
        """End the run, and forget the past, of a task that is gone or has become another."""
        await self._trainer.stop(self.active_runs(task_name))
        await self._task_state.delete(task_name)

    async def has_new_definition(self, spec: TaskSpec) -> bool:
        """Whether a task whose model has nothing to serve was given another definition since its last run."""
        tried = self._task_state.get(spec.task_name).definition
        if tried is None or self._model_cache.get_loaded(spec.model_id) or self.active_runs(spec.task_name):
            return False
        order = await self._request_or_reason(spec)
        if isinstance(order, str) or await self._model_cache.unavailable_reason(order.model) is None:
            return False
        return tried != order.definition_digest


def jitter(task_name: str) -> float:
    """A number from 0 to 1 that is always the same for a task, and another for another."""
    return crc32(task_name.encode()) / 2**32
