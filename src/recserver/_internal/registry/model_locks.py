"""One change of a model at a time, and a way to detect a change between two reads."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

from recserver._internal.storage.atomic_files import to_thread_shielded

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moment:
    """A point between changes: how many had started, and which models were being changed."""

    changes: int
    changing: frozenset[str]


class ModelLocks:
    """A lock for each model. It is held while its files change, until the model in memory agrees with them."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._holders: dict[str, asyncio.Task[Any] | None] = {}
        self._changes = 0
        self._last_change: dict[str, int] = {}

    @asynccontextmanager
    async def changing(self, model_id: str) -> AsyncIterator[None]:
        """Hold the lock while a model is changed. It is re-entrant: the outer block ends the change."""
        if self._is_mine(model_id):
            yield
            return
        async with self._lock(model_id):
            self._changes += 1
            self._last_change[model_id] = self._changes
            self._holders[model_id] = asyncio.current_task()
            try:
                yield
            finally:
                del self._holders[model_id]

    @asynccontextmanager
    async def reading(self, model_id: str) -> AsyncIterator[None]:
        """Hold the lock while a model is read: no other task changes it meanwhile."""
        if self._is_mine(model_id):
            yield
            return
        async with self._lock(model_id):
            yield

    def moment(self) -> Moment:
        """The present moment."""
        return Moment(self._changes, frozenset(self._holders))

    def changed_since(self, model_id: str, moment: Moment) -> bool:
        """Whether a change of the model was under way at ``moment``, or has started since."""
        return model_id in moment.changing or self._last_change.get(model_id, 0) > moment.changes

    def _is_mine(self, model_id: str) -> bool:
        return model_id in self._holders and self._holders[model_id] is asyncio.current_task()

    def _lock(self, model_id: str) -> asyncio.Lock:
        """The lock of a model; it lives as long as a task holds or awaits it."""
        return self._locks.setdefault(model_id, asyncio.Lock())


class HasLocks(Protocol):
    """A store that has a lock for each model."""

    @property
    def locks(self) -> ModelLocks: ...


S = TypeVar("S", bound=HasLocks)


def exclusive(
    method: Callable[Concatenate[S, str, P], T],
) -> Callable[Concatenate[S, str, P], Coroutine[Any, Any, T]]:
    """Make a method that changes a model a coroutine function: it runs in a thread while the model is locked.

    Cancelling it waits for its end.
    """

    @functools.wraps(method)
    async def call(self: S, model_id: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with self.locks.changing(model_id):
            return await to_thread_shielded(method, self, model_id, *args, **kwargs)

    return call
