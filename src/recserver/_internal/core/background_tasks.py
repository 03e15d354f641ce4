"""One root task that owns all background coroutines of a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]

logger = logging.getLogger(__name__)


class BackgroundTasks:
    """Coroutines that end when it closes. An error in one affects neither the others nor the host application.

    A task of its own holds the TaskGroup open: in the host's coroutine, an error in the group would cancel that.
    """

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._root: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the root task."""
        ready = asyncio.Event()
        self._root = asyncio.create_task(self._run_group(ready), name="recserver")
        await ready.wait()

    def start(self, work: Work, name: str) -> asyncio.Task[None]:
        """Run ``work()`` in a task. An exception in it is logged."""
        if self._group is None:
            raise RuntimeError("the server is not open")
        return self._group.create_task(_logged(work, name), name=f"recserver: {name}")

    async def close(self) -> None:
        """Cancel all tasks and wait for their end."""
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
        logger.exception("%s ended by an internal error", name)
