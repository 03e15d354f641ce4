"""The loops that run, held equal to the tasks that are wanted."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from recserver.core.clock import Clock, timestamp
from recserver.core.errors import InvalidInput
from recserver.core.events import EventBus, TasksReconciled
from recserver.core.task_group import BackgroundTasks
from recserver.scheduling.task_loop import OnDue, TaskLoop
from recserver.scheduling.triggers import Trigger, trigger_for
from recserver.training.task import TaskSpec

logger = logging.getLogger(__name__)

ReadTasks = Callable[[], Awaitable[Mapping[str, TaskSpec | InvalidInput]]]
"""All tasks as their files describe them now, or why a file cannot be used."""


class FirstDue(Protocol):
    """When a task is due first, in seconds of ``clock.monotonic()``."""

    async def __call__(self, spec: TaskSpec, trigger: Trigger, *, edited: bool = False) -> float: ...


@dataclass(slots=True)
class _RunningLoop:
    loop: TaskLoop
    task: asyncio.Task[None]


class Scheduler:
    """One loop a task. Everything that changes a loop goes through :meth:`reconcile`."""

    def __init__(
        self,
        *,
        read_tasks: ReadTasks,
        first_due: FirstDue,
        fire: OnDue,
        blocking_reason: Callable[[TaskSpec], Awaitable[str | None]],
        has_new_definition: Callable[[TaskSpec], Awaitable[bool]],
        discard_task: Callable[[str], Awaitable[None]],
        background: BackgroundTasks,
        clock: Clock,
        events: EventBus,
    ) -> None:
        """
        Args:
            first_due: when a task that gets a loop, or is given another schedule, is due first.
            fire: runs a task once.
            obstacle: why a task cannot run now, None if it can.
            corrected: whether a task that has nothing to show for itself was given another definition.
            retire: ends the run and forgets the past of a task that is gone or has become another, by name.
        """
        self._read_tasks, self._first_due, self._fire = read_tasks, first_due, fire
        self._blocking_reason, self._has_new_definition, self._discard_task = (
            blocking_reason,
            has_new_definition,
            discard_task,
        )
        self._background, self._clock, self._events = background, clock, events
        self._lock = asyncio.Lock()
        self._loops: dict[str, _RunningLoop] = {}
        self._known_tasks: frozenset[str] = frozenset()
        self.is_running = False
        self.file_errors: dict[str, str] = {}
        """Tasks whose file cannot be used, with the reason. The last good definition runs on."""

    @property
    def task_names(self) -> list[str]:
        """The tasks that have a loop."""
        return sorted(self._loops)

    def loop(self, task_name: str) -> TaskLoop | None:
        """The loop of a task, if it has one."""
        running = self._loops.get(task_name)
        return None if running is None else running.loop

    def next_run_at(self, task_name: str) -> str | None:
        """When the task is due next, by the wall clock."""
        loop = self.loop(task_name)
        if loop is None or not math.isfinite(loop.due):
            return None
        due = loop.due if loop.retry_at is None else loop.retry_at
        wait = max(0.0, due - self._clock.monotonic())
        return timestamp(self._clock.now() + timedelta(seconds=wait))

    async def start(self) -> None:
        """Start a loop for every task. A running scheduler only looks again."""
        self.is_running = True
        await self.reconcile()

    async def stop(self) -> None:
        """End all loops. Runs under way are not touched."""
        async with self._lock:
            self.is_running = False
            await self._stop_loops(list(self._loops))

    async def reconcile(self) -> None:
        """Start, change and end loops until they are those that the files ask for."""
        async with self._lock:
            wanted = await self._read_tasks()
            self.file_errors = {name: str(one) for name, one in wanted.items() if isinstance(one, InvalidInput)}
            gone = self._known_tasks - wanted.keys()
            self._known_tasks = frozenset(wanted)
            paused = [name for name, one in wanted.items() if isinstance(one, TaskSpec) and not one.enabled]
            await self._stop_loops([name for name in self._loops if name in gone or name in paused])
            for name in sorted(gone):  # with a loop or without: paused ones and those of a stopped scheduler too
                await self._discard_task(name)
            if not self.is_running:
                return
            for name, spec in wanted.items():
                if isinstance(spec, TaskSpec) and spec.enabled:
                    await self._start_or_update(name, spec)
            self._events.publish(TasksReconciled(tuple(self.task_names)))

    async def _start_or_update(self, name: str, spec: TaskSpec) -> None:
        running = self._loops.get(name)
        if (
            running is not None and running.loop.spec.training_key != spec.training_key
        ):  # it has become another task
            await self._stop_loops([name])
            await self._discard_task(name)
            running = None
        if running is None:
            schedule = trigger_for(spec)
            loop = TaskLoop(spec, schedule, await self._first_due(spec, schedule), self._fire, self._clock)
            self._loops[name] = _RunningLoop(loop, self._background.start(loop.run, f"loop of task {name}"))
            logger.info("task %s trains model %s %s", name, spec.model_id, spec.schedule_text)
            return
        loop = running.loop
        if loop.spec != spec:
            await self._update_loop(loop, spec)
        if loop.blocking_reason and loop.blocking_reason != await self._blocking_reason(spec):
            loop.blocking_reason = None
            loop.reschedule(min(loop.due, await self._first_due(spec, loop.trigger)))
        if await self._has_new_definition(spec) and not loop.is_firing:
            loop.reschedule(self._clock.monotonic())

    async def _update_loop(self, loop: TaskLoop, spec: TaskSpec) -> None:
        before, schedule = loop.spec, trigger_for(spec)
        other_rhythm = (spec.schedule, spec.timezone) != (before.schedule, before.timezone)
        due = await self._first_due(spec, schedule, edited=True) if other_rhythm else None
        loop.update(spec, schedule, due)
        logger.info("task %s was changed: model %s %s", spec.task_name, spec.model_id, spec.schedule_text)

    async def _stop_loops(self, names: list[str]) -> None:
        ended = [self._loops.pop(name).task for name in names]
        for work in ended:
            work.cancel()
        if ended:
            await asyncio.wait(ended)
