"""Several processes that serve one folder on one port, and are restarted when they end.

The writer of the data folder starts first, and then its followers. The supervisor itself serves nothing.
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
from pathlib import Path

from recserver._internal.core.child_process import child_environment
from recserver._internal.core.clock import Clock, SystemClock
from recserver._internal.core.errors import ServerCannotStart
from recserver._internal.server.settings import Settings
from recserver._internal.server.sockets import base_url, reserve_address
from recserver._internal.server.workers.process_setup import EXIT_CANNOT_START, stop_event
from recserver._internal.server.workers.worker_config import Role, WorkerConfig

STABLE_SECONDS, MIN_RESTART_DELAY, MAX_RESTART_DELAY = 30.0, 1.0, 30.0
"""Seconds. A process that ran for less than the first is restarted after a delay, which doubles each time."""

MAX_SOCKET_FOLDER_BYTES = 90
"""Maximum bytes of the path of the socket folder: paths of sockets may have 107."""

logger = logging.getLogger(__name__)


async def supervise(data: Path, settings: Settings) -> int:
    """Serve a folder by ``settings.workers`` processes until SIGINT or SIGTERM; returns the exit status.

    Args:
        data: absolute path of the data folder.

    Raises:
        ServerCannotStart: if the system or the settings do not allow it. If the first process cannot start, it
            prints why, and its exit status is returned.
    """
    if sys.platform != "linux":
        raise ServerCannotStart(
            "Several processes on one port need Linux, which distributes connections among them: "
            "omit --workers, or start servers with --read-only on separate ports."
        )
    stop_requested = stop_event()
    with ExitStack() as stack:
        holder = stack.enter_context(reserve_address(settings))
        config = WorkerConfig(
            role=Role.READER if settings.read_only else Role.WRITER,
            data_dir=str(data),
            host=settings.host,
            port=holder.getsockname()[1],
            socket_folder=stack.enter_context(socket_folder()),
            supervisor_pid=os.getpid(),
            workers=settings.workers,
        )
        return await _serve(config, stop_requested)


class ServingProcess:
    """One of the serving processes, across restarts."""

    def __init__(self, config: WorkerConfig, stop_requested: asyncio.Event, clock: Clock) -> None:
        self._config, self._stop_requested, self._clock = config, stop_requested, clock
        self._process: Process | None = None
        self._started = clock.monotonic()

    async def start(self, *, first: bool = False) -> bool:
        """Start the process; returns whether it serves, once it does or has ended."""
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
        output = self._process.stdout
        return output is not None and bool(await output.readline())

    async def status(self) -> int:
        """Its exit status, once it has ended; :data:`EXIT_CANNOT_START` if it was killed or not started."""
        status = EXIT_CANNOT_START if self._process is None else await self._process.wait()
        if status < 0:
            logger.error("the %s was killed by signal %d before it answered", self._config.role, -status)
        return EXIT_CANNOT_START if status < 0 else status

    async def keep_running(self) -> None:
        """Restart the process whenever it ends. Returns when it has ended after a stop was requested."""
        delay = 0.0
        while True:
            if self._process is None:
                exit_text = "is not running"
            else:
                exit_text = _describe_exit(self._process, await self._process.wait())
            if self._stop_requested.is_set():
                return
            now = self._clock.monotonic()
            delay = delay if now - self._started < STABLE_SECONDS else 0.0
            when = f"in {delay:g} seconds" if delay else "immediately"
            logger.warning("the %s %s: restarting it %s", self._config.role, exit_text, when)
            if await self._clock.wait(self._stop_requested, now + delay):
                return
            delay = min(MAX_RESTART_DELAY, max(MIN_RESTART_DELAY, 2 * delay))
            await self.start()

    def close(self) -> None:
        """Ask the process to finish active requests and end."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()


async def _serve(config: WorkerConfig, stop_requested: asyncio.Event) -> int:
    follower = config if config.role is Role.READER else config.model_copy(update={"role": Role.FOLLOWER})
    configs = config, *[follower] * (config.workers - 1)
    first, *others = (ServingProcess(each, stop_requested, SystemClock()) for each in configs)
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(_close_on_stop([first, *others], stop_requested))
        serves = await first.start(first=True)
        if not serves and not stop_requested.is_set():
            closing.cancel()
            return await first.status()
        if not stop_requested.is_set():
            await asyncio.gather(*(process.start() for process in others))
        for process in (first, *others):
            group.create_task(process.keep_running())
        if not stop_requested.is_set():
            mode = ", read-only" if config.role is Role.READER else ""
            url, processes = base_url(config.host, config.port), config.workers
            logger.info(
                "recserver listens on %s; data folder %s%s; %d processes", url, config.data_dir, mode, processes
            )
    logger.info("closed")
    return 0


async def _close_on_stop(processes: Sequence[ServingProcess], stop_requested: asyncio.Event) -> None:
    await stop_requested.wait()
    logger.info("closing: active requests finish, trainings stop")
    for process in processes:
        process.close()


def _ignore_sigint() -> None:
    """A terminal sends Ctrl-C to all processes: one that is starting would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _describe_exit(process: Process, status: int) -> str:
    text = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"(process {process.pid}) {text}"


def socket_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder for sockets that other users cannot access."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="recserver-")
    except OSError as error:
        raise ServerCannotStart(
            f"No temporary folder can be created ({error}): set TMPDIR to another folder."
        ) from None
    if len(os.fsencode(folder.name)) > MAX_SOCKET_FOLDER_BYTES:
        folder.cleanup()
        raise ServerCannotStart(
            f"The path of the temporary folder {folder.name} is too long for sockets: set TMPDIR to a shorter one."
        )
    return folder
