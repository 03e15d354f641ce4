"""The server: builds its parts, opens and closes them in order, and shows them over HTTP if asked to."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from recserver.catalog import Catalog
from recserver.clock import Clock, SystemClock
from recserver.errors import Draining, ServerCannotStart
from recserver.events import EventBus
from recserver.executors import Executor
from recserver.executors.process import ProcessExecutor
from recserver.history import History
from recserver.owner import TaskOwner
from recserver.publisher import Publisher
from recserver.recorder import RunRecorder
from recserver.runner import TaskRunner
from recserver.scheduler import Scheduler
from recserver.service import Service
from recserver.service.verb import Parts
from recserver.settings import Settings, load_settings
from recserver.store.chefs import ChefStore
from recserver.store.journal import Journal
from recserver.store.models import ModelStore
from recserver.store.tasks import TaskStore
from recserver.store.versions import VersionStore
from recserver.trainer import INTERRUPTED, Trainer
from recserver.versions import ModelVersions
from recserver.watcher import Watcher
from recserver.web.access import Access
from recserver.web.app import build_app

logger = logging.getLogger(__name__)


class RecServer(Service):
    """A recommendation server over one data folder.

    Used as ``async with RecServer("data") as rec:`` it trains and answers without HTTP; its verbs are the
    endpoints. ``web_app()`` mounts it in an aiohttp application, ``serve()`` gives it an address of its own.
    It installs no signal handlers, configures no logging and leaves the event loop as it is.
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
        self.events = EventBus()
        self._clock = clock or SystemClock()
        self._executor = executor
        self._parts: Parts | None = None
        self._resources = AsyncExitStack()

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            raise Draining("The server is not open: use it inside 'async with RecServer(...)'.")
        return self._parts

    @property
    def is_open(self) -> bool:
        """Whether verbs can be called."""
        return self._parts is not None

    async def __aenter__(self) -> Self:
        if self.is_open:
            raise ServerCannotStart("This RecServer is open already: one 'async with' is enough.")
        async with AsyncExitStack() as stack:
            try:
                self._parts = await self._open(stack)
            except OSError as error:
                raise ServerCannotStart(
                    f"The data folder {self.data_dir} cannot be used ({error.strerror}: {error.filename}): "
                    "correct its permissions, or choose another with --data."
                ) from None
            self._resources = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._resources.aclose()
        finally:
            self._parts = None

    async def cleanup_ctx(self, app: web.Application) -> AsyncIterator[None]:
        """For ``app.cleanup_ctx.append(rec.cleanup_ctx)``: open with the host application, close with it."""
        async with self:
            yield

    def web_app(self) -> web.Application:
        """An application to mount with ``add_subapp``. It opens the server only if nobody has.

        Host, Origin and keys are the host's business, unless the settings name a key.
        """
        return self._app(self._access() if self.settings.api_key else None)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen on the settings' address for as long as the block lasts; yields the URL.

        Requests in flight when it ends get ``shutdown_grace`` seconds to finish.
        """
        listener = await asyncio.to_thread(_listen, self.settings)  # before anything is opened or written
        runner = web.AppRunner(
            self._app(self._access()),
            handle_signals=False,
            shutdown_timeout=self.settings.shutdown_grace,
            access_log=None,
        )
        opens = not self.is_open
        try:
            await runner.setup()
            await web.SockSite(runner, listener).start()
            host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            self.draining = True
            if opens and self._parts:  # no training has to wait for slow clients
                await _end_trainings(self._parts.scheduler, self._parts.trainer)
            await runner.cleanup()
            listener.close()
            self.draining = False

    def _app(self, access: Access | None) -> web.Application:
        return build_app(
            self, access=access, max_body_bytes=self.settings.max_body_bytes, lifecycle=self._open_if_nobody_has
        )

    def _access(self) -> Access:
        key = self.settings.api_key
        return Access(key.get_secret_value() if key else None, self.settings.allowed_origins)

    async def _open_if_nobody_has(self, app: web.Application) -> AsyncIterator[None]:
        if self.is_open:
            yield
        else:
            async for _ in self.cleanup_ctx(app):
                yield

    async def _open(self, stack: AsyncExitStack) -> Parts:
        """Open every part; ``stack`` closes them in the opposite order."""
        data = await asyncio.to_thread(_make_folders, self.data_dir)
        policy = self.settings.source_policy(data)
        models, tasks = ModelStore(data / "models"), TaskStore(data / "tasks")
        chefs, journal = ChefStore(data / "config" / "restaurant_data.yaml"), Journal(data / ".scheduler.json")
        settings, clock, events = self.settings, self._clock, self.events
        history = History(
            data / "history.db", clock, keep_days=settings.history_days, keep_runs=settings.history_runs
        )
        catalog = Catalog(models, events, await asyncio.to_thread(settings.model_bytes))
        versions = VersionStore(models)
        model_versions = ModelVersions(
            models=models, store=versions, catalog=catalog, keep=settings.model_versions
        )
        owner = TaskOwner()
        executor = self._executor
        if executor is None:
            executor = await asyncio.to_thread(_worker_processes, self.settings)
        stack.push_async_callback(executor.close)
        await owner.open()
        stack.push_async_callback(history.close)
        stack.push_async_callback(owner.close)
        trainer = Trainer(
            models=models, store=versions, publisher=Publisher(model_versions, clock), catalog=catalog,
            executor=executor, policy=policy, limits=settings.limits, owner=owner, clock=clock, events=events,
        )  # fmt: skip
        recorder = RunRecorder(journal=journal, history=history, clock=clock, events=events)
        runner = TaskRunner(
            tasks=tasks, models=models, chefs=chefs, journal=journal, recorder=recorder,
            trainer=trainer, catalog=catalog, clock=clock,
        )  # fmt: skip
        scheduler = Scheduler(
            wanted=runner.wanted, first_due=runner.first_due, fire=runner.fire, obstacle=runner.obstacle,
            corrected=runner.corrected, retire=runner.retire, owner=owner, clock=clock, events=events,
        )  # fmt: skip

        async def look_again() -> None:
            await catalog.look_again()
            await scheduler.reconcile()

        await journal.open()
        await history.open()
        await trainer.recover()
        await runner.recover()
        owner.start(history.run, "history")
        owner.start(partial(history.close_left_open, INTERRUPTED), "history of an earlier server")
        stack.push_async_callback(_end_trainings, scheduler, trainer)
        await scheduler.start()
        watched = (data, models.folder, tasks.folder, chefs.path.parent)
        watcher = Watcher(watched, look_again, self.settings.rescan_seconds, clock)
        owner.start(watcher.run, "watcher of the data folder")
        return Parts(
            changing=asyncio.Lock(), clock=clock, policy=policy, models=models, chefs=chefs, tasks=tasks,
            journal=journal, history=history, catalog=catalog, versions=model_versions, executor=executor,
            trainer=trainer, runner=runner, scheduler=scheduler,
        )  # fmt: skip


def _listen(settings: Settings) -> socket.socket:
    """A socket that listens on the settings' address; who connects waits until the server has opened."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=1024)
    except OSError as error:
        raise ServerCannotStart(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): "
            "choose another with --host or --port."
        ) from None


def _make_folders(data_dir: Path) -> Path:
    """The data folder with what belongs in it, as an absolute path."""
    data = data_dir.resolve()
    try:
        for name in ("models", "tasks", "config"):
            (data / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerCannotStart(
            f"The data folder {data} cannot be used ({error.strerror}): choose another with --data."
        ) from None
    return data


def _worker_processes(settings: Settings) -> ProcessExecutor:
    from joblib import cpu_count  # knows the limits of containers, which os.cpu_count does not

    cores = int(cpu_count())
    size = settings.training_processes or max(1, cores - 1)
    return ProcessExecutor(size, threads_each=max(1, cores // size), priority=settings.training_priority)


async def _end_trainings(scheduler: Scheduler, trainer: Trainer) -> None:
    await scheduler.stop()
    await trainer.stop(trainer.runs.values())
