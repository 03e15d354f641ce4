"""Slots in which trainings run, and the queue for them: first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class WorkerSlots:
    """A number of slots. Each waiting caller is notified whenever its position in the queue changes."""

    def __init__(self, size: int) -> None:
        self._slots = asyncio.Semaphore(size)
        self._queue: dict[object, Callable[[int], None]] = {}

    @asynccontextmanager
    async def acquire(self, on_position: Callable[[int], None]) -> AsyncIterator[None]:
        """A slot, for as long as the block lasts.

        Args:
            on_position: called with the position in the queue, 1 for the next, while there is no free slot.
        """
        if self._slots.locked():
            await self._wait(on_position)
        else:
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    async def _wait(self, on_position: Callable[[int], None]) -> None:
        waiter = object()
        self._queue[waiter] = on_position
        on_position(len(self._queue))
        try:
            await self._slots.acquire()
        finally:
            del self._queue[waiter]
            for position, notify in enumerate(self._queue.values(), 1):
                notify(position)
