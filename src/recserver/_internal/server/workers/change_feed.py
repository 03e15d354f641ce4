"""The writer notifies its followers of changes of models, and waits until they have refreshed.

Over a Unix socket the writer sends the number of the last change as a line. A follower refreshes its models and
sends the line back. A follower that connects is notified at once.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from recserver._internal.core.clock import Clock
from recserver._internal.server.sockets import listen_unix

SETTLE_TIMEOUT = 5.0
"""Seconds that a response of the writer waits for followers."""

RETRY_SECONDS = 0.2
"""Seconds after which a follower connects again."""

GATHER_TIMEOUT = 1.0
"""Seconds that a restarted writer waits for its followers; others are starting themselves."""

logger = logging.getLogger(__name__)


class Followers:
    """The connected followers of a writer, each with the last change that it has acknowledged."""

    def __init__(self) -> None:
        self._last_change = 0
        self._acknowledged: dict[StreamWriter, int] = {}
        self._condition = asyncio.Condition()

    def notify_change(self) -> None:
        """Notify all followers that the serving version of a model has changed."""
        self._last_change += 1
        for follower in self._acknowledged:
            self._notify(follower)

    async def wait_settled(self) -> None:
        """Return once all followers have acknowledged all changes so far.

        A follower that takes too long is disconnected: it keeps serving, and refreshes when it connects again.
        """
        change = self._last_change
        if not self._behind(change):
            return
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT), self._condition:
                await self._condition.wait_for(lambda: not self._behind(change))
        except TimeoutError:
            for follower in self._behind(change):
                logger.warning("a process did not load a change of models within %g seconds", SETTLE_TIMEOUT)
                follower.transport.abort()

    async def wait_connected(self, number: int) -> None:
        """Return once ``number`` followers have refreshed, at most after :data:`GATHER_TIMEOUT` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_TIMEOUT), self._condition:
                await self._condition.wait_for(lambda: len(self._acknowledged) >= number and not self._behind(0))

    @asynccontextmanager
    async def listen(self, path: Path) -> AsyncIterator[None]:
        """Accept followers while the context is open."""
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

    async def _handle(self, acknowledgements: StreamReader, follower: StreamWriter) -> None:
        self._acknowledged[follower] = -1
        self._notify(follower)
        try:
            while line := await acknowledgements.readline():
                self._acknowledged[follower] = int(line)
                await self._notify_waiters()
        except ConnectionError:
            pass  # the follower has ended
        finally:
            del self._acknowledged[follower]
            follower.close()
            await self._notify_waiters()

    async def _notify_waiters(self) -> None:
        async with self._condition:
            self._condition.notify_all()

    def _notify(self, follower: StreamWriter) -> None:
        follower.write(b"%d\n" % self._last_change)

    def _behind(self, change: int) -> list[StreamWriter]:
        return [follower for follower, acknowledged in self._acknowledged.items() if acknowledged < change]


async def follow(
    path: Path, refresh: Callable[[], Awaitable[None]], clock: Clock, connected: asyncio.Event
) -> None:
    """Call ``refresh`` whenever the writer announces a change or has restarted, until cancelled.

    Args:
        connected: set once the writer knows this follower, or is not running.
    """
    while True:
        with suppress(OSError):  # the writer is not running, and may be restarting
            changes, writer = await asyncio.open_unix_connection(path)
            try:
                while line := await changes.readline():
                    await _refresh(refresh, clock)
                    writer.write(line)
                    connected.set()
            finally:
                writer.close()
        connected.set()
        await _wait_retry(clock)


async def _refresh(refresh: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Call ``refresh`` until it succeeds; the writer waits for it."""
    while True:
        try:
            return await refresh()
        except OSError:
            pass  # the disk may be available again soon
        except Exception:
            logger.exception("refreshing models")
        await _wait_retry(clock)


async def _wait_retry(clock: Clock) -> None:
    await clock.wait(asyncio.Event(), clock.monotonic() + RETRY_SECONDS)
