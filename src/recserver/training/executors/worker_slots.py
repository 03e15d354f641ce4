"""Places in which trainings run, and the queue for them: first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class _Waiter:
    on_position: Callable[[int], None]
    granted: asyncio.Future[None] = field(default_factory=asyncio.Future)


class WorkerSlots:
    """A number of places. Whoever waits for one is told its position whenever that changes."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._queue: list[_Waiter] = []

    @asynccontextmanager
    async def acquire(self, on_position: Callable[[int], None]) -> AsyncIterator[None]:
        """A place, for as long as the block lasts.

        Args:
            tell: told the position in the queue, 1 for the next, while there is no free place.
        """
        await self._acquire(on_position)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, on_position: Callable[[int], None]) -> None:
        if self._free > 0:
            self._free -= 1
            return
        waiting = _Waiter(on_position)
        self._queue.append(waiting)
        on_position(len(self._queue))
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
                self._notify_all()
            elif not waiting.granted.cancelled():  # the place was given to it in this very moment
                self._release()
            raise

    def _release(self) -> None:
        while self._queue:
            waiting = self._queue.pop(0)
            if not waiting.granted.done():
                waiting.granted.set_result(None)
                self._notify_all()
                return
        self._free += 1

    def _notify_all(self) -> None:
        for position, waiting in enumerate(self._queue, 1):
            waiting.on_position(position)
