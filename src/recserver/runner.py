"""What the scheduler's loops do: one run of a task, from its due time to its record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import timedelta

from recserver.catalog import Catalog
from recserver.clock import Clock, parse_timestamp, timestamp
from recserver.errors import InvalidInput, ModelNotFound, StorageUnreadable, shown
from recserver.events import EventBus, RunSkipped
from recserver.loop import TaskLoop
from recserver.specs.tasks import TaskSpec
from recserver.store.chefs import ChefStore
from recserver.store.journal import Journal
from recserver.store.models import ModelStore, StoredModel
from recserver.store.tasks import TaskStore
from recserver.trainer import INTERRUPTED, Outcome, Run, Trainer

logger = logging.getLogger(__name__)


class TaskRunner:
    """Runs tasks, and knows when each is due first."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        models: ModelStore,
        chefs: ChefStore,
        journal: Journal,
        trainer: Trainer,
        catalog: Catalog,
        clock: Clock,
        events: EventBus,
    ) -> None:
        self._tasks, self._models, self._chefs, self._journal = tasks, models, chefs, journal
        self._trainer, self._catalog, self._clock, self._events = trainer, catalog, clock, events

    async def recover(self) -> None:
        """Close the records of runs that a killed server left open, and remove its litter."""
        await self._tasks.clear_temporaries()
        await self._chefs.clear_temporaries()
        for name in await self._tasks.names():
            if self._journal.get(name).last_status == "training":
                await self._journal.update(name, last_status="failed", last_error=INTERRUPTED)

    async def wanted(self) -> Mapping[str, TaskSpec | InvalidInput]:
        """Every task as its file describes it now."""
        found = {}
        for name in await self._tasks.names():
            try:
                found[name] = await self._tasks.spec(name)
            except FileNotFoundError:
                continue
        return found

    async def first_due(self, spec: TaskSpec) -> float:
        """When a task is due first: now if its model cannot serve, else one interval after its last run was.

        The wall clock only says how old the last run is, and that no more than an interval is believed.
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
        if last is None:
            return now
        age = (self._clock.now() - last).total_seconds()
        return now + spec.interval - min(max(age, 0.0), spec.interval)

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

    async def fire(self, loop: TaskLoop, due: float) -> None:
        """Run a loop's task once, for the due time given, unless something is in the way."""
        spec = loop.spec
        reason = await self.obstacle(spec)
        loop.blocked = reason
        definition = None
        if reason is None:
            definition = await self._definition(spec, await self._models.read(spec.model_id))
        reason = reason or self._trainer.obstacle(spec.model_id)
        if reason is not None:
            await self._skip(spec.task_name, reason)
            return

        async def note_end(outcome: Outcome) -> None:
            await self._journal.update(
                spec.task_name,
                last_status=outcome.kind,
                last_error=outcome.error,
                data_report=outcome.data_report,
            )

        run = self._trainer.start(spec.task_name, spec.model_id, spec.interactions_data_chef_id, note_end)
        await self._note_start(spec.task_name, due, definition)
        await asyncio.shield(run.outcome)
        if missed := loop.skip_missed():
            record = self._journal.get(spec.task_name)
            await self._journal.update(spec.task_name, skipped=record.skipped + missed)

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

    async def _note_start(self, task_name: str, due: float, definition: str | None) -> None:
        now = self._clock.now()
        due_at = now - timedelta(seconds=max(0.0, self._clock.monotonic() - due))
        await self._journal.update(
            task_name,
            last_due_at=timestamp(due_at),
            last_run_at=timestamp(now),
            last_status="training",
            last_error=None,
            definition=definition,
            runs=self._journal.get(task_name).runs + 1,
        )

    async def _skip(self, task_name: str, reason: str) -> None:
        skipped = self._journal.get(task_name).skipped + 1
        await self._journal.update(task_name, last_status="skipped", last_error=reason, skipped=skipped)
        self._events.publish(RunSkipped(task_name, reason))
        logger.warning("run skipped: task %s: %s", task_name, reason)
