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

from recserver.core.child_process import child_environment
from recserver.core.clock import Clock, SystemClock
from recserver.core.errors import ServerCannotStart
from recserver.server.settings import Settings
from recserver.server.sockets import base_url, reserve_address
from recserver.server.workers.process_setup import EXIT_CANNOT_START, stop_event
from recserver.server.workers.worker_config import Role, WorkerConfig

STABLE_SECONDS, MIN_RESTART_DELAY, MAX_RESTART_DELAY = 30.0, 1.0, 30.0
"""Seconds after which the end of a process is no reason to wait before it is started again; the first wait, which
doubles, and the longest."""

MAX_SOCKET_FOLDER_BYTES = 90
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
    told_to_stop = stop_event()
    with ExitStack() as stack:
        holder = stack.enter_context(reserve_address(settings))
        place = WorkerConfig(
            role=Role.READER if settings.read_only else Role.WRITER,
            data_dir=str(data),
            host=settings.host,
            port=holder.getsockname()[1],
            socket_folder=stack.enter_context(socket_folder()),
            supervisor_pid=os.getpid(),
            workers=settings.workers,
        )
        return await _serve(place, told_to_stop)


class ServingProcess:
    """One of the serving processes, whichever it is just now."""

    def __init__(self, config: WorkerConfig, stop_requested: asyncio.Event, clock: Clock) -> None:
        self._config, self._stop_requested, self._clock = config, stop_requested, clock
        self._process: Process | None = None
        self._started = clock.monotonic()

    async def start(self, *, first: bool = False) -> bool:
        """Start it; returns whether it came to answer, once it does or has ended."""
        self._started = self._clock.monotonic()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._config.command(first=first), stdin=DEVNULL, stdout=PIPE, env=child_environment(),
                preexec_fn=_ignore_sigint,
            )  # fmt: skip
        except OSError as error:
            self._process = None
            logger.error("the %s cannot be started (%s)", self._config.role, error.strerror)  # noqa: TRY400
            return False
        if self._stop_requested.is_set():
            self.close()
        said = self._process.stdout
        return said is not None and bool(await said.readline())

    async def status(self) -> int:
        """Its exit status, once it has ended; that of a failure where a signal ended it or it was not started."""
        status = EXIT_CANNOT_START if self._process is None else await self._process.wait()
        if status < 0:
            logger.error("the %s was killed by signal %d before it answered", self._config.role, -status)
        return EXIT_CANNOT_START if status < 0 else status

    async def keep_running(self) -> None:
        """Start it again whenever it ends, until all are told to stop; returns once it has ended then."""
        pause = 0.0
        while True:
            how = (
                "is missing"
                if self._process is None
                else _describe_exit(self._process, await self._process.wait())
            )
            if self._stop_requested.is_set():
                return
            now = self._clock.monotonic()
            pause = pause if now - self._started < STABLE_SECONDS else 0.0
            soon = f"in {pause:g} seconds" if pause else "at once"
            logger.warning("the %s %s: it is started again %s", self._config.role, how, soon)
            if await self._clock.wait(self._stop_requested, now + pause):
                return
            pause = min(MAX_RESTART_DELAY, max(MIN_RESTART_DELAY, 2 * pause))
            await self.start()

    def close(self) -> None:
        """Tell it to let requests in flight finish, and end."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()


async def _serve(config: WorkerConfig, stop_requested: asyncio.Event) -> int:
    follower = config if config.role is Role.READER else replace(config, role=Role.FOLLOWER)
    first, *others = (
        ServingProcess(one, stop_requested, SystemClock()) for one in (config, *[follower] * (config.workers - 1))
    )
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(_close_on_stop([first, *others], stop_requested))
        answers = await first.start(first=True)
        if not answers and not stop_requested.is_set():
            closing.cancel()
            return await first.status()
        if not stop_requested.is_set():
            await asyncio.gather(*(one.start() for one in others))
        for one in (first, *others):
            group.create_task(one.keep_running())
        if not stop_requested.is_set():
            how = ", read-only" if config.role is Role.READER else ""
            url, processes = base_url(config.host, config.port), config.workers
            logger.info(
                "recserver listens on %s; data folder %s%s; %d processes", url, config.data_dir, how, processes
            )
    logger.info("closed")
    return 0


async def _close_on_stop(processes: Sequence[ServingProcess], stop_requested: asyncio.Event) -> None:
    await stop_requested.wait()
    logger.info("closing: requests in flight finish, trainings stop")
    for one in processes:
        one.close()


def _ignore_sigint() -> None:
    """A terminal sends Ctrl-C to all processes: one that is only starting would end with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _describe_exit(process: Process, status: int) -> str:
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"(process {process.pid}) {how}"


def socket_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for sockets that nobody else can enter."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="recserver-")
    except OSError as error:
        raise ServerCannotStart(f"No temporary folder can be made ({error}): set TMPDIR to another.") from None
    if len(os.fsencode(folder.name)) > MAX_SOCKET_FOLDER_BYTES:
        folder.cleanup()
        raise ServerCannotStart(
            f"The name of the temporary folder {folder.name} is too long for sockets: set TMPDIR to a shorter one."
        )
    return folder
