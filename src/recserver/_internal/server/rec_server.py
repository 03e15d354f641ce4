"""The server: builds its components, opens and closes them in order, and serves them over HTTP."""

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

from recserver._internal.core.background_tasks import BackgroundTasks
from recserver._internal.core.clock import Clock, SystemClock
from recserver._internal.core.errors import Draining, ServerCannotStart
from recserver._internal.core.events import EventBus
from recserver._internal.core.validation.values import Bool, KnownId
from recserver._internal.results.runs import RunRecord
from recserver._internal.server.http.app import build_app
from recserver._internal.server.http.auth import Access
from recserver._internal.server.http.writer_proxy import NO_PEERS, Peers
from recserver._internal.server.service import Service
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.services import Services
from recserver._internal.server.service.tasks import find_task
from recserver._internal.server.settings import Settings, load_settings
from recserver._internal.server.sockets import BACKLOG, base_url, listen
from recserver._internal.server.wiring import (
    build_services,
    open_for_reading,
    open_for_writing,
    start_following,
    start_writing,
    stop_jobs,
)
from recserver._internal.storage.folder_lock import require_unlocked
from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.executors.protocol import Executor

logger = logging.getLogger(__name__)


class RecServer(Service):
    """A recommendation server over one data folder.

    ``async with RecServer("data") as rec:``, or :meth:`open` and :meth:`close`, trains and recommends without
    HTTP. Its operations are the endpoints, and :meth:`train`. :meth:`web_app` returns an aiohttp application to
    mount, and :meth:`serve` listens on an address. The server installs no signal handlers, leaves the event loop
    as it is, and logs warnings and errors only, to the logger ``recserver``.

    One server at a time writes a folder. Others can serve it with ``Settings(read_only=True)``: they change and
    train nothing, and load what the writer publishes.
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
            data_dir: folder of ``models/``, ``tasks/`` and ``config/``, created if needed.
            settings: None reads them from the environment.
            clock: for tests.
            executor: runs trainings, previews and exports; None starts worker processes.
        """
        self.data_dir: Path = Path(data_dir)
        self.settings: Settings = load_settings() if settings is None else settings
        self.read_only: bool = self.settings.read_only
        self.events: EventBus = EventBus()
        self.draining: bool = False
        self._waits = set()
        self.lock_holder: int | None = None
        """The process that is shown to others as the holder of the data folder; None is this one."""
        self._clock = clock or SystemClock()
        self._executor = executor
        self._opened: Services | None = None
        self._resources = AsyncExitStack()

    @property
    def _services(self) -> Services:
        if self._opened is None:
            raise Draining("The server is not open: use 'async with RecServer(...)', or await its open().")
        return self._opened

    @property
    def is_open(self) -> bool:
        """Whether operations can be called."""
        return self._opened is not None

    async def open(self) -> None:
        """Open the data folder and start the scheduler, as ``async with`` does. :meth:`close` must follow.

        Raises:
            DataFolderInUse: if another server writes the folder.
            ServerCannotStart: if the folder cannot be used, or this server is already open.
        """
        if self.is_open:
            raise ServerCannotStart("This RecServer is already open: open it once, or use one 'async with' only.")
        async with AsyncExitStack() as stack:
            try:
                self._opened = await self._open(stack)
            except OSError as error:
                raise ServerCannotStart(
                    f"The data folder {self.data_dir} cannot be used ({error.strerror}: {error.filename}): "
                    "correct its permissions, serve it with --read-only, or choose another with --data."
                ) from None
            self._resources = stack.pop_all()

    async def close(self) -> None:
        """Stop the scheduler and active trainings, and release the data folder. Twice is the same as once."""
        try:
            await self._resources.aclose()
        finally:
            self._opened = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @operation("", scope="train", changes="running")
    async def train(self, task_name: KnownId, *, force: Bool = False) -> RunRecord:
        """Run a task, or join its active run, and return the run when it has ended.

        Returns what :meth:`get_run` returns. A failed or stopped run raises nothing: see its ``outcome``. A joined
        run may be scheduled, and may have read its data before the call. If the caller is cancelled, the training
        continues; :meth:`stop_training` stops it.

        Args:
            force: promote the new version even if the quality gate would reject it. Only an active run that was
                started with ``force`` is joined.

        Raises:
            TaskNotFound, ModelNotFound, DataChefNotFound: if the task, its model or a data chef is missing.
            ModelBusy: if another task is training the model, or the active run cannot be joined.
        """
        async with self._services.write_lock:
            spec = await find_task(task_name, self._services.tasks)
            run = await self._services.runner.run_or_join(spec, force=force)
        await asyncio.wait([run.result])
        return run.log.record

    async def cleanup_ctx(self, app: web.Application) -> AsyncIterator[None]:
        """Open and close with a host application: ``app.cleanup_ctx.append(rec.cleanup_ctx)``."""
        async with self:
            yield

    def web_app(self) -> web.Application:
        """An application to mount with ``add_subapp``. It opens the server unless it is already open.

        Access control is left to the host application, unless the settings have an API key.
        """
        return self._build_app(self._access() if self.settings.api_key else None)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on the settings' address while the context is open; yields the URL.

        At the end, active requests get ``shutdown_grace`` seconds to finish.
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
        """Serve on sockets while the context is open, like :meth:`serve`.

        Args:
            bind: returns listening sockets; called when the server has opened.
            peers: the other processes of the service.
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
            if opens and self._opened:  # first, so that trainings do not run on while slow clients finish
                await stop_jobs(self._opened)
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
            if not self.is_open and not self.read_only:  # if the folder is locked, report that instead
                await asyncio.to_thread(require_unlocked, self.data_dir)
            raise

    async def _open(self, stack: AsyncExitStack) -> Services:
        """Open all components. ``stack`` closes them in reverse order, and unlocks the folder last."""
        settings, background = self.settings, BackgroundTasks()
        if self.read_only:
            data = await open_for_reading(self.data_dir)
        else:
            data = await open_for_writing(self.data_dir, stack, self.lock_holder)
        executor = self._executor
        if executor is None:
            executor = await asyncio.to_thread(_worker_processes, settings)
        stack.push_async_callback(executor.close)
        memory = await asyncio.to_thread(settings.model_memory_bytes)
        services = build_services(
            data, settings, memory, clock=self._clock, events=self.events, executor=executor, background=background
        )
        await background.open()
        stack.callback(services.batcher.close)
        stack.push_async_callback(services.history.close)
        stack.push_async_callback(background.close)
        if self.read_only:
            await start_following(services, background, settings.rescan_seconds)
        else:
            await start_writing(services, background, settings.rescan_seconds, stack)
        return services


def _worker_processes(settings: Settings) -> ProcessExecutor:
    from joblib import cpu_count  # respects the CPU limits of containers, unlike os.cpu_count

    cores = int(cpu_count())
    size = settings.training_processes or max(1, cores - 1)
    return ProcessExecutor(size, threads_each=max(1, cores // size), priority=settings.training_priority)
