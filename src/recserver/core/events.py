"""What happens inside a server, told to whoever listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

MAX_QUEUED = 10_000
"""Events kept for a listener that does not keep up; older ones are dropped."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A training began, or waits for a worker: ``trigger`` is ``schedule``, ``retry`` or ``run_task``."""

    task_name: str
    model_id: str
    run_id: str = ""
    trigger: str = "schedule"


@dataclass(frozen=True, slots=True)
class RunProgressed(Event):
    """A training came further."""

    task_name: str
    model_id: str
    stage: str
    rows_read: int
    run_id: str = ""
    queue_position: int | None = None
    iteration: int | None = None
    iterations: int | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """A training ended: ``completed``, ``unchanged``, ``failed`` or ``stopped``; a failure has its reason."""

    task_name: str
    model_id: str
    outcome: str
    error: str | None
    model_version: int | None
    data_report: dict[str, Any] | None = None
    """What was read of the source, as in the model's metadata; None if the training did not come so far."""
    run_id: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunSkipped(Event):
    """A due time came at which no training could be started."""

    task_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class TaskFailing(Event):
    """The runs of a task began to fail. It is said once, until they succeed again."""

    task_name: str
    error: str


@dataclass(frozen=True, slots=True)
class TaskRecovered(Event):
    """A task whose runs failed since ``failing_since`` has succeeded again."""

    task_name: str
    failing_since: str


@dataclass(frozen=True, slots=True)
class ModelServes(Event):
    """A version of a model answers from now on."""

    model_id: str
    model_version: int


@dataclass(frozen=True, slots=True)
class TasksReconciled(Event):
    """The loops that run are those that the task files ask for."""

    task_names: tuple[str, ...]


E = TypeVar("E", bound=Event)


class EventBus:
    """Hands every event to every listener, in order, without waiting for any of them."""

    def __init__(self) -> None:
        self._listeners: list[Subscription] = []

    def publish(self, event: Event) -> None:
        """Tell ``event`` to all who listen now."""
        for listener in self._listeners:
            listener.push(event)

    @contextmanager
    def listen(self) -> Iterator[Subscription]:
        """Everything that is published from now until the block ends."""
        listener = Subscription()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)


class Subscription:
    """The events that one listener has not taken yet."""

    def __init__(self) -> None:
        self._queue: deque[Event] = deque(maxlen=MAX_QUEUED)
        self._available = asyncio.Event()
        self._closed = False

    def push(self, event: Event) -> None:
        self._queue.append(event)
        self._available.set()

    def close(self) -> None:
        """Let whoever iterates come to the end, once it has taken what waits."""
        self._closed = True
        self._available.set()

    async def next(self, kind: type[E], where: Callable[[E], bool] = lambda _: True) -> E:
        """The next event of one kind for which ``where`` holds; the events before it are passed over."""
        while (event := await self._take()) is not None:
            if isinstance(event, kind) and where(event):
                return event
        raise EOFError("the subscription was ended")

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._take()) is not None:
            yield event

    async def _take(self) -> Event | None:
        """The oldest event that waits; None if there will be none."""
        while not self._queue:
            if self._closed:
                return None
            self._available.clear()
            await self._available.wait()
        return self._queue.popleft()
