"""One change of a model at a time, and a way to see whether one came between two readings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary


@dataclass(frozen=True, slots=True)
class Moment:
    """A point between changes: how many had begun, and of which models one was under way."""

    changes: int
    changing: frozenset[str]


class ModelLocks:
    """A lock for each model, held by whoever changes its files until what memory holds of it agrees with them."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._holders: dict[str, asyncio.Task[Any] | None] = {}
        self._changes = 0
        self._last_change: dict[str, int] = {}

    @asynccontextmanager
    async def changing(self, model_id: str) -> AsyncIterator[None]:
        """Held while a model is changed. Whoever holds it may enter it again; the outer block ends the change."""
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
        """Held while a model is read; no change of it is under way meanwhile, but one that the reader makes."""
        if self._is_mine(model_id):
            yield
            return
        async with self._lock(model_id):
            yield

    def moment(self) -> Moment:
        """Now."""
        return Moment(self._changes, frozenset(self._holders))

    def changed_since(self, model_id: str, moment: Moment) -> bool:
        """Whether a change of the model was under way at ``moment``, or has begun since."""
        return model_id in moment.changing or self._last_change.get(model_id, 0) > moment.changes

    def _is_mine(self, model_id: str) -> bool:
        return model_id in self._holders and self._holders[model_id] is asyncio.current_task()

    def _lock(self, model_id: str) -> asyncio.Lock:
        """The lock of a model; it lives as long as a task holds or awaits it."""
        return self._locks.setdefault(model_id, asyncio.Lock())
