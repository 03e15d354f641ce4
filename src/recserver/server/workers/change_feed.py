"""The writer tells its followers that other models serve, and knows when they have taken that up.

Over a Unix socket the writer sends the number of the last change as a line; a follower looks at the folder, and
sends the line back. Whoever connects is told at once.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from recserver.core.clock import Clock
from recserver.server.sockets import listen_unix

SETTLE_TIMEOUT = 5.0
"""Seconds that an answer of the writer waits for followers."""

RETRY_SECONDS = 0.2
"""Seconds after which a follower looks for the writer again."""

GATHER_TIMEOUT = 1.0
"""Seconds that a writer which is back waits for its followers; one that is not back by then is being started."""

logger = logging.getLogger(__name__)


class Followers:
    """Those of a writer that are connected, each with the last change that it has taken up."""

    def __init__(self) -> None:
        self._last_change = 0
        self._acknowledged: dict[StreamWriter, int] = {}
        self._condition = asyncio.Condition()

    def notify_change(self) -> None:
        """Another version serves, or a model does not any more: tell it."""
        self._last_change += 1
        for follower in self._acknowledged:
            self._notify(follower)

    async def wait_settled(self) -> None:
        """Return once all have taken up what was told until now.

        One that takes too long is let go: it serves on, and looks again when it is back.
        """
        wanted = self._last_change
        if not self._behind(wanted):
            return
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT), self._condition:
                await self._condition.wait_for(lambda: not self._behind(wanted))
        except TimeoutError:
            for follower in self._behind(wanted):
                logger.warning("a process did not take up a change of models within %g seconds", SETTLE_TIMEOUT)
                follower.transport.abort()

    async def wait_connected(self, number: int) -> None:
        """Return once so many are there and have looked, after :data:`GATHERING` seconds in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_TIMEOUT), self._condition:
                await self._condition.wait_for(lambda: len(self._acknowledged) >= number and not self._behind(0))

    @asynccontextmanager
    async def listen(self, path: Path) -> AsyncIterator[None]:
        """Be there for followers as long as the block lasts."""
        listener = await asyncio.to_thread(listen_unix, path)
        server = await asyncio.start_unix_server(self._handle, sock=listener)
        try:
            yield
        finally:
            server.close()
            for follower in self._acknowledged:
                follower.close()
            async with self._condition:
                await self._condition.wait_for(lambda: not self._acknowledged)

    async def _handle(self, said: StreamReader, follower: StreamWriter) -> None:
        self._acknowledged[follower] = -1
        self._notify(follower)
        try:
            while line := await said.readline():
                self._acknowledged[follower] = int(line)
                await self._notify_waiters()
        except ConnectionError:
            pass  # the same as the end of what it says
        finally:
            del self._acknowledged[follower]
            follower.close()
            await self._notify_waiters()

    async def _notify_waiters(self) -> None:
        async with self._condition:
            self._condition.notify_all()

    def _notify(self, follower: StreamWriter) -> None:
        follower.write(b"%d\n" % self._last_change)

    def _behind(self, wanted: int) -> list[StreamWriter]:
        return [follower for follower, taken_up in self._acknowledged.items() if taken_up < wanted]


async def follow(
    path: Path, refresh: Callable[[], Awaitable[None]], clock: Clock, connected: asyncio.Event
) -> None:
    """Call ``look_again`` when the writer says that other models serve, and when it is back, until cancelled.

    Args:
        abreast: set once the writer knows this follower, or is found to be away.
    """
    while True:
        with suppress(OSError):  # the writer is away, and may be back soon
            told, writer = await asyncio.open_unix_connection(path)
            try:
                while line := await told.readline():
                    await _refresh(refresh, clock)
                    writer.write(line)
                    connected.set()
            finally:
                writer.close()
        connected.set()
        await _wait_retry(clock)


async def _refresh(refresh: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Call ``look_again`` until it succeeds; the writer waits for that meanwhile."""
    while True:
        try:
            return await refresh()
        except OSError:
            pass  # the disk is away, and may be back soon
        except Exception:
            logger.exception("looking at models that changed")
        await _wait_retry(clock)


async def _wait_retry(clock: Clock) -> None:
    await clock.wait(asyncio.Event(), clock.monotonic() + RETRY_SECONDS)
