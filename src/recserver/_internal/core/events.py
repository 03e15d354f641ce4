"""Events inside a server, delivered to its subscribers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

MAX_QUEUED = 10_000
"""Events queued for a slow subscriber; older ones are dropped."""


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A training started, or waits for a worker. ``trigger``: ``schedule``, ``retry`` or ``run_task``."""

    task_name: str
    model_id: str
    run_id: str = ""
    trigger: str = "schedule"


@dataclass(frozen=True, slots=True)
class RunProgressed(Event):
    """A training made progress."""

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
    """A training ended. ``outcome``: ``completed``, ``unchanged``, ``failed`` or ``stopped``."""

    task_name: str
    model_id: str
    outcome: str
    error: str | None
    model_version: int | None
    data_report: dict[str, Any] | None = None
    """Statistics of the data read, as in the model's metadata; None if the training ended before."""
    run_id: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunSkipped(Event):
    """A run was due, but no training could be started."""

    task_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class TaskFailing(Event):
    """The first failed run of a task since a successful one."""

    task_name: str
    error: str


@dataclass(frozen=True, slots=True)
class TaskRecovered(Event):
    """The first successful run of a task whose runs failed since ``failing_since``."""

    task_name: str
    failing_since: str


@dataclass(frozen=True, slots=True)
class ModelServes(Event):
    """A version of a model serves from now on."""

    model_id: str
    model_version: int


@dataclass(frozen=True, slots=True)
class TasksReconciled(Event):
    """The running task loops match the task files."""

    task_names: tuple[str, ...]


E = TypeVar("E", bound=Event)


class EventBus:
    """Delivers every event to every subscriber, in order, without waiting for any of them."""

    def __init__(self) -> None:
        self._listeners: list[Subscription] = []

    def publish(self, event: Event) -> None:
        """Deliver ``event`` to all present subscribers."""
        for listener in self._listeners:
            listener.push(event)

    @contextmanager
    def listen(self) -> Iterator[Subscription]:
        """Subscribe to everything that is published until the block ends."""
        listener = Subscription()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)


class Subscription:
    """The events that one subscriber has not consumed yet."""

    def __init__(self) -> None:
        self._queue: deque[Event] = deque(maxlen=MAX_QUEUED)
        self._available = asyncio.Event()
        self._closed = False

    def push(self, event: Event) -> None:
        self._queue.append(event)
        self._available.set()

    def close(self) -> None:
        """End the iteration after the queued events."""
        self._closed = True
        self._available.set()

    async def next(self, kind: type[E], where: Callable[[E], bool] = lambda _: True) -> E:
        """The next event of one type for which ``where`` holds; earlier events are skipped.

        Raises:
            EOFError: if the subscription was closed.
        """
        while (event := await self._take()) is not None:
            if isinstance(event, kind) and where(event):
                return event
        raise EOFError("the subscription was ended")

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._take()) is not None:
            yield event

    async def _take(self) -> Event | None:
        """The oldest queued event; None once the subscription is closed and empty."""
        while not self._queue:
            if self._closed:
                return None
            self._available.clear()
            await self._available.wait()
        return self._queue.popleft()
