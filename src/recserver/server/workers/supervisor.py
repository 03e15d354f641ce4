"""Several processes that serve one folder on one port, started again when they end.

The one that writes the data folder comes first, and only then those that follow it; the supervisor itself answers
nothing, and needs little memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from recserver.core.child_process import environment
from recserver.core.clock import Clock, SystemClock
from recserver.core.errors import ServerCannotStart
from recserver.server.settings import Settings
from recserver.server.sockets import hold, url_of
from recserver.server.workers.process_setup import CANNOT, stop_signal
from recserver.server.workers.worker_config import Place, Role

SOON, SHORTEST, LONGEST = 30.0, 1.0, 30.0
"""Seconds after which the end of a process is no reason to wait before it is started again; the first wait, which
doubles, and the longest."""

LONGEST_FOLDER = 90
"""Bytes of the sockets' folder: names of sockets have 107."""

logger = logging.getLogger(__name__)


async def supervise(data: Path, settings: Settings) -> int:
    """Serve a folder by ``settings.workers`` processes until SIGINT or SIGTERM; the exit status.

    Args:
        data: absolute.

    Raises:
        ServerCannotStart: if the system or the settings do not allow it. What the first process refuses, it says
            itself, and its exit status is this one's.
    """
    if sys.platform != "linux":
        raise ServerCannotStart(
            "Several processes on one port need Linux, which shares connections out among them: "
            "leave out --workers, or start servers with --read-only on ports of their own."
        )
    told_to_stop = stop_signal()
    with ExitStack() as stack:
        holder = stack.enter_context(hold(settings))
        place = Place(
            role=Role.READER if settings.read_only else Role.WRITER,
            data=str(data),
            host=settings.host,
            port=holder.getsockname()[1],
            folder=stack.enter_context(socket_folder()),
            supervisor=os.getpid(),
            workers=settings.workers,
        )
        return await _serve(place, told_to_stop)


class ServingProcess:
    """One of the serving processes, whichever it is just now."""

    def __init__(self, place: Place, told_to_stop: asyncio.Event, clock: Clock) -> None:
        self._place, self._told_to_stop, self._clock = place, told_to_stop, clock
        self._process: Process | None = None
        self._started = clock.monotonic()

    async def start(self, *, first: bool = False) -> bool:
        """Start it; returns whether it came to answer, once it does or has ended."""
        self._started = self._clock.monotonic()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._place.command(first=first), stdin=DEVNULL, stdout=PIPE, env=environment(),
                preexec_fn=_leave_ctrl_c_to_the_supervisor,
            )  # fmt: skip
        except OSError as error:
            self._process = None
            logger.error("the %s cannot be started (%s)", self._place.role, error.strerror)  # noqa: TRY400
            return False
        if self._told_to_stop.is_set():
            self.close()
        said = self._process.stdout
        return said is not None and bool(await said.readline())

    async def status(self) -> int:
        """Its exit status, once it has ended; that of a failure where a signal ended it or it was not started."""
        status = CANNOT if self._process is None else await self._process.wait()
        if status < 0:
            logger.error("the %s was killed by signal %d before it answered", self._place.role, -status)
        return CANNOT if status < 0 else status

    async def keep(self) -> None:
        """Start it again whenever it ends, until all are told to stop; returns once it has ended then."""
        pause = 0.0
        while True:
            how = "is missing" if self._process is None else _ended(self._process, await self._process.wait())
            if self._told_to_stop.is_set():
                return
            now = self._clock.monotonic()
            pause = pause if now - self._started < SOON else 0.0
            soon = f"in {pause:g} seconds" if pause else "at once"
            logger.warning("the %s %s: it is started again %s", self._place.role, how, soon)
            if await self._clock.wait(self._told_to_stop, now + pause):
                return
            pause = min(LONGEST, max(SHORTEST, 2 * pause))
            await self.start()

    def close(self) -> None:
        """Tell it to let requests in flight finish, and end."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()


async def _serve(place: Place, told_to_stop: asyncio.Event) -> int:
    follower = place if place.role is Role.READER else replace(place, role=Role.FOLLOWER)
    first, *others = (
        ServingProcess(one, told_to_stop, SystemClock()) for one in (place, *[follower] * (place.workers - 1))
    )
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(_close_when_told([first, *others], told_to_stop))
        answers = await first.start(first=True)
        if not answers and not told_to_stop.is_set():
            closing.cancel()
            return await first.status()
        if not told_to_stop.is_set():
            await asyncio.gather(*(one.start() for one in others))
        for one in (first, *others):
            group.create_task(one.keep())
        if not told_to_stop.is_set():
            how = ", read-only" if place.role is Role.READER else ""
            url, processes = url_of(place.host, place.port), place.workers
            logger.info("recserver listens on %s; data folder %s%s; %d processes", url, place.data, how, processes)
    logger.info("closed")
    return 0


async def _close_when_told(processes: Sequence[ServingProcess], told_to_stop: asyncio.Event) -> None:
    await told_to_stop.wait()
    logger.info("closing: requests in flight finish, trainings stop")
    for one in processes:
        one.close()


def _leave_ctrl_c_to_the_supervisor() -> None:
    """A terminal sends Ctrl-C to all processes: one that is only starting would end with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ended(process: Process, status: int) -> str:
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"(process {process.pid}) {how}"


def socket_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for sockets that nobody else can enter."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="recserver-")
    except OSError as error:
        raise ServerCannotStart(f"No temporary folder can be made ({error}): set TMPDIR to another.") from None
    if len(os.fsencode(folder.name)) > LONGEST_FOLDER:
        folder.cleanup()
        raise ServerCannotStart(
            f"The name of the temporary folder {folder.name} is too long for sockets: set TMPDIR to a shorter one."
        )
    return folder
