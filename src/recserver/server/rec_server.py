"""The server: builds its parts, opens and closes them in order, and shows them over HTTP if asked to."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from recserver.core.clock import Clock, SystemClock
from recserver.core.errors import Draining, ServerCannotStart
from recserver.core.events import EventBus
from recserver.core.task_group import BackgroundTasks
from recserver.core.validation.values import Bool, KnownId
from recserver.server.components import (
    build_services,
    open_for_reading,
    open_for_writing,
    start_following,
    start_writing,
    stop_jobs,
)
from recserver.server.http.app import build_app
from recserver.server.http.auth import Access
from recserver.server.http.writer_proxy import NO_PEERS, Peers
from recserver.server.service import Service
from recserver.server.service.operation import Result, Services, control
from recserver.server.service.tasks import find_task
from recserver.server.settings import Settings, load_settings
from recserver.server.sockets import BACKLOG, base_url, listen
from recserver.storage.folder_lock import require_unlocked
from recserver.training.executors.process_pool import ProcessExecutor
from recserver.training.executors.protocol import Executor

logger = logging.getLogger(__name__)


class RecServer(Service):
    """A recommendation server over one data folder.

    Used as ``async with RecServer("data") as rec:`` it trains and answers without HTTP; its verbs are the
    endpoints, and :meth:`train`. ``web_app()`` mounts it in an aiohttp application, ``serve()`` gives it an
    address of its own. It installs no signal handlers, configures no logging and leaves the event loop as it is.

    One server at a time writes a folder. Others may serve it with ``Settings(read_only=True)``: they change
    nothing, train nothing, and follow what the one that writes publishes.
    """

    def __init__(
        self,
        data_dir: str | PathLike[str] = "data",
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
        executor: Executor | None = None,
    ) -> None:
        """
        Args:
            data_dir: folder that holds, or will hold, ``models/``, ``tasks/`` and ``config/``.
            settings: None takes them from the environment.
            clock: for tests.
            executor: where trainings and previews run; None starts worker processes.
        """
        self.data_dir = Path(data_dir)
        self.settings = load_settings() if settings is None else settings
        self.read_only = self.settings.read_only
        self.events = EventBus()
        self.lock_holder: int | None = None
        """The process that others are told has the data folder; None is this one."""
        self._clock = clock or SystemClock()
        self._executor = executor
        self._services: Services | None = None
        self._resources = AsyncExitStack()

    @property
    def services(self) -> Services:
        if self._services is None:
            raise Draining("The server is not open: use it inside 'async with RecServer(...)'.")
        return self._services

    @property
    def is_open(self) -> bool:
        """Whether verbs can be called."""
        return self._services is not None

    async def __aenter__(self) -> Self:
        if self.is_open:
            raise ServerCannotStart("This RecServer is open already: one 'async with' is enough.")
        async with AsyncExitStack() as stack:
            try:
                self._services = await self._open(stack)
            except OSError as error:
                raise ServerCannotStart(
                    f"The data folder {self.data_dir} cannot be used ({error.strerror}: {error.filename}): "
                    "correct its permissions, serve it with --read-only, or choose another with --data."
                ) from None
            self._resources = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._resources.aclose()
        finally:
            self._services = None

    @control
    async def train(self, task_name: KnownId, *, force: Bool = False) -> Result:
        """Run a task, or join the run of it that is under way, and return the run once it has ended.

        What is returned is what :meth:`get_run` tells of the run: that it failed, or was stopped, is its
        ``outcome`` and raises nothing. A run that is joined may be one of the schedule, and may have read its data
        before the call. The training goes on if the caller is cancelled; :meth:`stop_training` stops it.

        Args:
            force: let the new version serve even if the quality gate would refuse it; only a run that was begun
                with this is joined then.

        Raises:
            TaskNotFound, ModelNotFound, DataChefNotFound: if the task, or what it names, is missing.
            ModelBusy: if the model is being trained by another task, or the run cannot be joined.
        """
        async with self.services.write_lock:
            spec = await find_task(task_name, self.services.tasks)
            run = await self.services.runner.run_or_join(spec, force=force)
        await asyncio.wait([run.result])
        return run.log.record.model_dump()

    async def cleanup_ctx(self, app: web.Application) -> AsyncIterator[None]:
        """For ``app.cleanup_ctx.append(rec.cleanup_ctx)``: open with the host application, close with it."""
        async with self:
            yield

    def web_app(self) -> web.Application:
        """An application to mount with ``add_subapp``. It opens the server only if nobody has.

        Host, Origin and keys are the host's business, unless the settings name a key.
        """
        return self._build_app(self._access() if self.settings.api_key else None)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on the settings' address for as long as the block lasts; yields the URL.

        Requests in flight when it ends get ``shutdown_grace`` seconds to finish.
        """
        listener = await self._listener()  # before anything is opened or written

        async def bind() -> Sequence[socket.socket]:
            return [listener]

        try:
            async with self.serve_on(bind):
                yield base_url(self.settings.host, listener.getsockname()[1])
        finally:
            listener.close()

    @asynccontextmanager
    async def serve_on(
        self, bind: Callable[[], Awaitable[Sequence[socket.socket]]], peers: Peers = NO_PEERS
    ) -> AsyncIterator[None]:
        """Answer on sockets for as long as the block lasts, as :meth:`serve` does.

        Args:
            bind: gives sockets that listen, once the server has opened.
            company: the other processes of the service.
        """
        runner = web.AppRunner(
            self._build_app(self._access(), peers),
            handle_signals=False,
            shutdown_timeout=self.settings.shutdown_grace,
            access_log=None,
        )
        opens, listeners = not self.is_open, list[socket.socket]()
        try:
            await runner.setup()
            listeners += await bind()
            for listener in listeners:
                await web.SockSite(runner, listener, backlog=BACKLOG).start()
            yield
        finally:
            self.draining = True
            if opens and self._services:  # no training has to wait for slow clients
                await stop_jobs(self._services)
            await runner.cleanup()
            for listener in listeners:
                listener.close()
            self.draining = False

    def _build_app(self, access: Access | None, peers: Peers = NO_PEERS) -> web.Application:
        return build_app(
            self,
            access=access,
            peers=peers,
            max_body_bytes=self.settings.max_body_bytes,
            answer_cache_bytes=self.settings.answer_cache * 2**20,
            lifecycle=self._open_if_closed,
        )

    def _access(self) -> Access:
        key = self.settings.api_key
        return Access(key.get_secret_value() if key else None, self.settings.allowed_origins)

    async def _open_if_closed(self, app: web.Application) -> AsyncIterator[None]:
        if self.is_open:
            yield
        else:
            async for _ in self.cleanup_ctx(app):
                yield

    async def _listener(self) -> socket.socket:
        try:
            return await asyncio.to_thread(listen, self.settings)
        except ServerCannotStart:
            if not self.is_open and not self.read_only:  # started twice: the lock of its folder says more
                await asyncio.to_thread(require_unlocked, self.data_dir)
            raise

    async def _open(self, stack: AsyncExitStack) -> Services:
        """Open every part; ``stack`` closes them in the opposite order, and unlocks the folder last."""
        settings, owner = self.settings, BackgroundTasks()
        if self.read_only:
            data = await open_for_reading(self.data_dir)
        else:
            data = await open_for_writing(self.data_dir, stack, self.lock_holder)
        executor = self._executor
        if executor is None:
            executor = await asyncio.to_thread(_worker_processes, settings)
        stack.push_async_callback(executor.close)
        memory = await asyncio.to_thread(settings.model_memory_bytes)
        parts = build_services(
            data, settings, memory, clock=self._clock, events=self.events, executor=executor, background=owner
        )
        await owner.open()
        stack.callback(parts.batcher.close)
        stack.push_async_callback(parts.history.close)
        stack.push_async_callback(owner.close)
        if self.read_only:
            await start_following(parts, owner, settings.rescan_seconds)
        else:
            await start_writing(parts, owner, settings.rescan_seconds, stack)
        return parts


def _worker_processes(settings: Settings) -> ProcessExecutor:
    from joblib import cpu_count  # knows the limits of containers, which os.cpu_count does not

    cores = int(cpu_count())
    size = settings.training_processes or max(1, cores - 1)
    return ProcessExecutor(size, threads_each=max(1, cores // size), priority=settings.training_priority)
