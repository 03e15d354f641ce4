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
from recserver.server.sockets import listen_privately

PATIENCE = 5.0
"""Seconds that an answer of the writer waits for followers."""

RETRY = 0.2
"""Seconds after which a follower looks for the writer again."""

GATHERING = 1.0
"""Seconds that a writer which is back waits for its followers; one that is not back by then is being started."""

logger = logging.getLogger(__name__)


class Followers:
    """Those of a writer that are connected, each with the last change that it has taken up."""

    def __init__(self) -> None:
        self._changes = 0
        self._taken_up: dict[StreamWriter, int] = {}
        self._moved = asyncio.Condition()

    def changed(self) -> None:
        """Another version serves, or a model does not any more: tell it."""
        self._changes += 1
        for follower in self._taken_up:
            self._tell(follower)

    async def settled(self) -> None:
        """Return once all have taken up what was told until now.

        One that takes too long is let go: it serves on, and looks again when it is back.
        """
        wanted = self._changes
        if not self._behind(wanted):
            return
        try:
            async with asyncio.timeout(PATIENCE), self._moved:
                await self._moved.wait_for(lambda: not self._behind(wanted))
        except TimeoutError:
            for follower in self._behind(wanted):
                logger.warning("a process did not take up a change of models within %g seconds", PATIENCE)
                follower.transport.abort()

    async def gathered(self, number: int) -> None:
        """Return once so many are there and have looked, after :data:`GATHERING` seconds in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHERING), self._moved:
                await self._moved.wait_for(lambda: len(self._taken_up) >= number and not self._behind(0))

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Be there for followers as long as the block lasts."""
        listener = await asyncio.to_thread(listen_privately, path)
        server = await asyncio.start_unix_server(self._follow, sock=listener)
        try:
            yield
        finally:
            server.close()
            for follower in self._taken_up:
                follower.close()
            async with self._moved:
                await self._moved.wait_for(lambda: not self._taken_up)

    async def _follow(self, said: StreamReader, follower: StreamWriter) -> None:
        self._taken_up[follower] = -1
        self._tell(follower)
        try:
            while line := await said.readline():
                self._taken_up[follower] = int(line)
                await self._move()
        except ConnectionError:
            pass  # the same as the end of what it says
        finally:
            del self._taken_up[follower]
            follower.close()
            await self._move()

    async def _move(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _tell(self, follower: StreamWriter) -> None:
        follower.write(b"%d\n" % self._changes)

    def _behind(self, wanted: int) -> list[StreamWriter]:
        return [follower for follower, taken_up in self._taken_up.items() if taken_up < wanted]


async def follow(
    path: Path, look_again: Callable[[], Awaitable[None]], clock: Clock, abreast: asyncio.Event
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
                    await _look(look_again, clock)
                    writer.write(line)
                    abreast.set()
            finally:
                writer.close()
        abreast.set()
        await _pause(clock)


async def _look(look_again: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Call ``look_again`` until it succeeds; the writer waits for that meanwhile."""
    while True:
        try:
            return await look_again()
        except OSError:
            pass  # the disk is away, and may be back soon
        except Exception:
            logger.exception("looking at models that changed")
        await _pause(clock)


async def _pause(clock: Clock) -> None:
    await clock.wait(asyncio.Event(), clock.monotonic() + RETRY)
