"""Runs one loop for each enabled task, and updates the loops when the task files change."""

from __future__ import annotations

import asyncio
import logging
import math

from recserver._internal.core.background_tasks import BackgroundTasks
from recserver._internal.core.clock import Clock, timestamp
from recserver._internal.core.errors import InvalidInput
from recserver._internal.core.events import EventBus, TasksReconciled
from recserver._internal.scheduling.task_loop import TaskLoop
from recserver._internal.scheduling.task_runner import TaskRunner
from recserver._internal.scheduling.triggers import trigger_for
from recserver._internal.training.task import TaskSpec

logger = logging.getLogger(__name__)


class Scheduler:
    """One loop for each task. Every change of a loop goes through :meth:`reconcile`."""

    def __init__(self, runner: TaskRunner, *, background: BackgroundTasks, clock: Clock, events: EventBus) -> None:
        self._runner, self._background, self._clock, self._events = runner, background, clock, events
        self._lock = asyncio.Lock()
        self._loops: dict[str, tuple[TaskLoop, asyncio.Task[None]]] = {}
        self._known_tasks: frozenset[str] = frozenset()
        self.is_running = False
        self.file_errors: dict[str, str] = {}
        """Tasks whose file is invalid, with the reason. A loop keeps the last valid definition."""

    @property
    def task_names(self) -> list[str]:
        """The tasks that have a loop, sorted."""
        return sorted(self._loops)

    def loop(self, task_name: str) -> TaskLoop | None:
        """The loop of a task, if it has one."""
        return self._loops[task_name][0] if task_name in self._loops else None

    def next_run_at(self, task_name: str) -> str | None:
        """The wall-clock time of the task's next run, retries included; None if none is planned."""
        loop = self.loop(task_name)
        if loop is None or not math.isfinite(loop.due):
            return None
        if loop.retry_at is None:
            planned = loop.trigger.next_wall_time(loop.due, self._clock)
        else:
            planned = self._clock.wall_time(loop.retry_at)
        return timestamp(max(planned, self._clock.now()))

    async def start(self) -> None:
        """Start a loop for every task. If the scheduler is running, the same as :meth:`reconcile`."""
        self.is_running = True
        await self.reconcile()

    async def stop(self) -> None:
        """Stop all loops. Active runs continue."""
        async with self._lock:
            self.is_running = False
            await self._stop_loops(list(self._loops))

    async def reconcile(self) -> None:
        """Start, update and stop loops until they match the task files."""
        async with self._lock:
            tasks = await self._runner.read_tasks()
            self.file_errors = {name: str(task) for name, task in tasks.items() if isinstance(task, InvalidInput)}
            removed = self._known_tasks - tasks.keys()
            self._known_tasks = frozenset(tasks)
            specs = {name: task for name, task in tasks.items() if isinstance(task, TaskSpec)}
            paused = {name for name, spec in specs.items() if not spec.enabled}
            await self._stop_loops([name for name in self._loops if name in removed or name in paused])
            for name in sorted(removed):  # with or without a loop: paused tasks, and those of a stopped scheduler
                await self._runner.discard_task(name)
            if not self.is_running:
                return
            for name, spec in specs.items():
                if spec.enabled:
                    await self._start_or_update(name, spec)
            self._events.publish(TasksReconciled(tuple(self.task_names)))

    async def _start_or_update(self, name: str, spec: TaskSpec) -> None:
        loop = self.loop(name)
        if loop is not None and loop.spec.training_key != spec.training_key:  # it trains something else now
            await self._stop_loops([name])
            await self._runner.discard_task(name)
            loop = None
        if loop is None:
            trigger = trigger_for(spec)
            due = await self._runner.first_due(spec, trigger)
            loop = TaskLoop(spec, trigger, due, self._runner.fire, self._clock)
            self._loops[name] = loop, self._background.start(loop.run, f"loop of task {name}")
            logger.info("task %s trains model %s %s", name, spec.model_id, spec.schedule_text)
            return
        if loop.spec != spec:
            await self._update_loop(loop, spec)
        if loop.blocking_reason and loop.blocking_reason != await self._runner.blocking_reason(spec):
            loop.blocking_reason = None
            loop.reschedule(min(loop.due, await self._runner.first_due(spec, loop.trigger)))
        if await self._runner.has_new_definition(spec) and not loop.is_firing:
            loop.reschedule(self._clock.monotonic())

    async def _update_loop(self, loop: TaskLoop, spec: TaskSpec) -> None:
        before, trigger = loop.spec, trigger_for(spec)
        schedule_changed = (spec.schedule, spec.timezone) != (before.schedule, before.timezone)
        due = await self._runner.first_due(spec, trigger, edited=True) if schedule_changed else None
        loop.update(spec, trigger, due)
        logger.info("task %s was changed: model %s %s", spec.task_name, spec.model_id, spec.schedule_text)

    async def _stop_loops(self, names: list[str]) -> None:
        tasks = [self._loops.pop(name)[1] for name in names]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
