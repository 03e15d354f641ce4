"""One root task that owns every coroutine a server starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]

logger = logging.getLogger(__name__)


class BackgroundTasks:
    """Coroutines started here end with it; a fault in one touches neither the others nor the host.

    The TaskGroup is held open by a task of its own, not by whoever opens the server: a group held open in the
    host's coroutine would cancel that coroutine when something in the group goes wrong.
    """

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._root: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Be ready to start coroutines."""
        ready = asyncio.Event()
        self._root = asyncio.create_task(self._run_group(ready), name="recserver")
        await ready.wait()

    def start(self, work: Work, name: str) -> asyncio.Task[None]:
        """Call ``work`` in a task. An exception that comes out of it is logged."""
        if self._group is None:
            raise RuntimeError("the server is not open")
        return self._group.create_task(_logged(work, name), name=f"recserver: {name}")

    async def close(self) -> None:
        """Cancel everything that still runs, and return when all of it has ended."""
        if self._root is not None:
            self._root.cancel()
            await asyncio.wait([self._root])
            self._root = self._group = None

    async def _run_group(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            ready.set()
            await asyncio.get_running_loop().create_future()  # until cancelled


async def _logged(work: Work, name: str) -> None:
    try:
        await work()
    except Exception:
        logger.exception("%s ended by a fault in recserver", name)
