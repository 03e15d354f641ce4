"""Runs a task once: checks that it can run, starts the training, and records due times missed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

from recserver._internal.chefs.chef_store import ChefStore
from recserver._internal.core.clock import Clock, parse_timestamp
from recserver._internal.core.errors import (
    DataChefNotFound,
    InvalidInput,
    ModelBusy,
    ModelNotFound,
    StorageUnreadable,
    quoted,
)
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.scheduling.retries import retry_delay
from recserver._internal.scheduling.run_recorder import DueTime, RunRecorder
from recserver._internal.scheduling.task_loop import TaskLoop
from recserver._internal.scheduling.task_state import TaskStateStore
from recserver._internal.scheduling.triggers import Trigger
from recserver._internal.storage.atomic_files import remove_temporaries
from recserver._internal.training.active_run import Run, TrainingRequest
from recserver._internal.training.run_ids import new_run_id
from recserver._internal.training.task import TaskSpec
from recserver._internal.training.task_store import TaskStore
from recserver._internal.training.trainer import INTERRUPTED, Trainer

BUSY_RETRY_DELAY = 5.0
"""Seconds after which a retry that found its model in use is tried again."""

JITTER_MIN_TASKS = 10
"""With fewer tasks, overdue tasks are not spread."""

MAX_JITTER = 5.0
"""Overdue interval tasks are spread over at most this many seconds, or a tenth of their interval."""


@dataclass(frozen=True, kw_only=True)
class TaskRunner:
    """Runs tasks, and computes when each is due first."""

    tasks: TaskStore
    models: ModelStore
    chefs: ChefStore
    task_state: TaskStateStore
    recorder: RunRecorder
    trainer: Trainer
    model_cache: ModelCache
    clock: Clock

    async def recover(self) -> None:
        """Close the records of runs that a killed server left open, and remove its temporary files."""
        for folder in (self.tasks.folder, self.chefs.path.parent):
            await asyncio.to_thread(remove_temporaries, folder)
        await self.recorder.close_interrupted(INTERRUPTED)

    async def read_tasks(self) -> Mapping[str, TaskSpec | InvalidInput]:
        """Every task as its file defines it now, or why the file is invalid."""
        return await self.tasks.read_all()

    async def first_due(self, spec: TaskSpec, trigger: Trigger, *, edited: bool = False) -> float:
        """When a task is due first: now if its model has nothing to serve, else by its trigger.

        If many tasks are overdue together, as after a downtime, they are spread over some seconds.

        Args:
            edited: whether the task had another schedule before. Past times of the new cron expression do
                not count.
        """
        now = self.clock.monotonic()
        try:
            model = await self.models.read(spec.model_id)
        except ModelNotFound:
            return now
        is_running = edited and self.active_runs(spec.task_name)
        if not is_running and await self.model_cache.unavailable_reason(model):
            return now
        last = parse_timestamp(self.task_state.get(spec.task_name).last_due_at)
        last = last or parse_timestamp(model.config.get("training_completed_at"))
        if edited and spec.schedule is not None:
            last = self.clock.now()
        due = trigger.first_due(last, self.clock)
        if due > now or spec.interval is None or len(await self.tasks.names()) < JITTER_MIN_TASKS:
            return due
        jitter = crc32(spec.task_name.encode()) / 2**32  # the same at every start
        return now + jitter * min(MAX_JITTER, spec.interval / 10)

    async def blocking_reason(self, spec: TaskSpec) -> str | None:
        """Why the task cannot run now: its model or a data chef is missing. None if it can."""
        request = await self._request_or_reason(spec)
        return request if isinstance(request, str) else None

    async def fire(self, loop: TaskLoop, due: float, attempt: int) -> float | None:
        """Run a loop's task for the due time ``due``, or record why it cannot run.

        Returns:
            Seconds before the next attempt; None if none is to be made.
        """
        spec, name = loop.spec, loop.spec.task_name
        if attempt > 1 and self.task_state.get(name).run_id != loop.last_run_id:
            return None  # the task was run by hand meanwhile, so there is nothing left to retry
        request = await self._request_or_reason(spec, "schedule" if attempt == 1 else "retry", attempt)
        loop.blocking_reason = request if isinstance(request, str) else None
        reason = loop.blocking_reason or self._busy_reason(spec)
        if isinstance(request, str) or reason is not None:
            if attempt > 1 and not loop.blocking_reason:  # a postponed retry is not a missed due time
                return BUSY_RETRY_DELAY
            await self.recorder.record_skipped(name, str(reason), running=bool(self.active_runs(name)))
            return None
        coalesced = loop.coalesced if attempt == 1 else 0
        due_time = DueTime(due, loop.trigger.wall_time(due, self.clock), coalesced)
        loop.attempts, loop.last_run_id = attempt, request.run_id
        run = await self._start(request, due_time)
        result = await asyncio.shield(run.result)
        await self.recorder.record_missed(name, loop.skip_missed())
        return retry_delay(result, attempt, self.task_state.get(name).crashes)

    async def run_now(self, spec: TaskSpec, *, force: bool = False) -> Run:
        """Start a run of a task at once, whatever its schedule and whether or not the scheduler runs.

        Args:
            force: whether the new version is promoted even if the quality gate rejects it.

        Raises:
            ModelNotFound, DataChefNotFound: if the task's model or a data chef is missing.
            ModelBusy: if the model is being trained.
        """
        request = await self._request(spec, "run_task", force=force)
        if (reason := self._busy_reason(spec)) is not None:
            raise ModelBusy(f"{reason} Wait for that to end.")
        return await self._start(request)

    async def run_or_join(self, spec: TaskSpec, *, force: bool = False) -> Run:
        """The task's run under way, if it does what is requested; else a new one, as :meth:`run_now`.

        Raises:
            ModelNotFound, DataChefNotFound: if the task's model or a data chef is missing.
            ModelBusy: if another training of the model is under way.
        """
        await self.models.read(spec.model_id)  # a run that is about to end may end here: it is not joined
        for run in self.active_runs(spec.task_name):
            if run.model_id == spec.model_id and run.request.force >= force:
                await run.visible.wait()
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
        """The request for a run, by the current definitions.

        Nothing may be awaited between this and the start of the training, so that the model cannot be changed in
        between.

        Raises:
            ModelNotFound, DataChefNotFound: if the task's model or a data chef is missing.
            StorageUnreadable: if the data chefs cannot be read.
        """
        all_chefs = await self.chefs.read()
        model = await self.models.read(spec.model_id)
        for chef_id in spec.chef_ids():
            if chef_id not in all_chefs:
                raise DataChefNotFound(chef_id)
        chefs = {chef_id: all_chefs[chef_id] for chef_id in spec.chef_ids()}
        return TrainingRequest(new_run_id(self.clock.now()), spec, model, chefs, trigger, attempt, force)

    def _busy_reason(self, spec: TaskSpec) -> str | None:
        """Why no run of the task can begin now: its model is in use, or the one it trained before an edit."""
        if reason := self.trainer.blocking_reason(spec.model_id):
            return reason
        return next((self.trainer.blocking_reason(run.model_id) for run in self.active_runs(spec.task_name)), None)

    async def _start(self, request: TrainingRequest, due_time: DueTime | None = None) -> Run:
        """Start a run, and wait until it is visible that it is under way."""
        run = self.trainer.start(request, self.recorder.open(request, due_time))
        await run.visible.wait()
        return run

    def active_runs(self, task_name: str) -> list[Run]:
        """The task's runs under way: at most one."""
        return [run for run in self.trainer.runs.values() if run.task_name == task_name]

    async def discard_task(self, task_name: str) -> None:
        """Stop the run and delete the state of a task that was removed, or that trains something else now."""
        await self.trainer.stop(self.active_runs(task_name))
        await self.task_state.delete(task_name)

    async def has_new_definition(self, spec: TaskSpec) -> bool:
        """Whether a task whose model has nothing to serve was redefined since its last run."""
        tried = self.task_state.get(spec.task_name).definition
        if tried is None or self.model_cache.get_loaded(spec.model_id) or self.active_runs(spec.task_name):
            return False
        request = await self._request_or_reason(spec)
        if isinstance(request, str) or await self.model_cache.unavailable_reason(request.model) is None:
            return False
        return tried != request.definition_digest
