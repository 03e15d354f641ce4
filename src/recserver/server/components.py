"""The parts of a server over one data folder: built, and set going to write it or only to follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

from recserver.chefs.chef_store import ChefStore
from recserver.core.clock import Clock
from recserver.core.errors import InvalidInput, ServerCannotStart
from recserver.core.events import EventBus
from recserver.core.task_group import BackgroundTasks
from recserver.recommend.micro_batching import MicroBatcher
from recserver.registry.model_cache import ModelCache
from recserver.registry.model_store import ModelStore
from recserver.registry.repair import ModelRepairer
from recserver.registry.version_lifecycle import ModelVersions
from recserver.registry.version_store import VersionStore
from recserver.scheduling.run_history import RunHistory
from recserver.scheduling.run_history_reader import ReadOnlyRunHistory
from recserver.scheduling.run_recorder import RunRecorder
from recserver.scheduling.scheduler import Scheduler
from recserver.scheduling.task_runner import TaskRunner
from recserver.scheduling.task_state import TaskStateStore
from recserver.server.service.operation import Services
from recserver.server.settings import Settings
from recserver.storage.atomic_files import remove_temporaries, to_thread_shielded
from recserver.storage.folder_lock import DataLock
from recserver.storage.folder_watcher import FolderWatcher
from recserver.training.executors.protocol import Executor
from recserver.training.export.export_job import EXPORT_FOLDER
from recserver.training.exporter import Exporter
from recserver.training.publisher import Publisher
from recserver.training.task_store import TaskStore
from recserver.training.trainer import INTERRUPTED, Trainer

STATE_FILE = ".scheduler.json"


async def open_for_writing(path: Path, stack: AsyncExitStack, lock_holder: int | None = None) -> Path:
    """The data folder as an absolute path, made if need be and locked before anything in it is touched.

    ``stack`` unlocks it; ``holder`` is the process that others are told has it.
    """
    data = await asyncio.to_thread(_make_folders, path)
    lock = DataLock(data, lock_holder)
    stack.push_async_callback(asyncio.to_thread, lock.release)
    await to_thread_shielded(lock.acquire)
    await asyncio.to_thread(_make_folders, data, "models", "tasks", "config")
    return data


async def open_for_reading(path: Path) -> Path:
    """The data folder as an absolute path; it must be there.

    Raises:
        ServerCannotStart: if it is not.
    """
    data = await asyncio.to_thread(path.resolve)
    if not await asyncio.to_thread(data.is_dir):
        raise ServerCannotStart(f"There is no data folder {data} to serve read-only: choose another with --data.")
    return data


def _make_folders(data: Path, *names: str) -> Path:
    data = data.resolve()
    try:
        for folder in [data / name for name in names] or [data]:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerCannotStart(
            f"The data folder {data} cannot be used ({error.strerror}): choose another with --data."
        ) from None
    return data


def build_services(
    data: Path,
    settings: Settings,
    model_memory: int | None,
    *,
    clock: Clock,
    events: EventBus,
    executor: Executor,
    background: BackgroundTasks,
) -> Services:
    """Every part, at rest.

    Args:
        memory: bytes that the models in memory may have together.
    """
    policy = settings.source_policy(data)
    models, tasks = ModelStore(data / "models"), TaskStore(data / "tasks")
    chefs, journal = ChefStore(data / "config" / "restaurant_data.yaml"), TaskStateStore(data / STATE_FILE)
    history = (ReadOnlyRunHistory if settings.read_only else RunHistory)(
        data / "history.db", clock, keep_days=settings.history_days, keep_runs=settings.history_runs
    )
    catalog, store = ModelCache(models, events, model_memory), VersionStore(models)
    versions = ModelVersions(
        models=models, version_store=store, model_cache=catalog, clock=clock, max_versions=settings.model_versions
    )
    mender = ModelRepairer(models=models, store=store, model_cache=catalog, clock=clock)
    trainer = Trainer(
        models=models, version_store=store, publisher=Publisher(versions,
        clock), model_cache=catalog, executor=executor,
        policy=policy, limits=settings.limits, background=background, clock=clock, events=events,
    )  # fmt: skip
    recorder = RunRecorder(task_state=journal, history=history, clock=clock, events=events)
    runner = TaskRunner(
        tasks=tasks, models=models, chefs=chefs, task_state=journal, recorder=recorder,
        trainer=trainer, model_cache=catalog, clock=clock,
    )  # fmt: skip
    scheduler = Scheduler(runner, background=background, clock=clock, events=events)
    return Services(
        write_lock=asyncio.Lock(), clock=clock, policy=policy, models=models, chefs=chefs, tasks=tasks,
        task_state=journal, history=history, model_cache=catalog, versions=versions, repairer=mender,
        executor=executor, trainer=trainer, runner=runner, scheduler=scheduler, batcher=MicroBatcher(),
        exporter=Exporter(executor, background, clock),
    )  # fmt: skip


async def start_writing(
    services: Services, background: BackgroundTasks, rescan: float, stack: AsyncExitStack
) -> None:
    """Put right what a killed server left, and start everything; ``stack`` ends the trainings."""

    async def look_again() -> None:
        await services.model_cache.refresh()
        await services.scheduler.reconcile()

    services.model_cache.on_damage = services.repairer.repair
    await services.task_state.open()
    await services.history.open()
    await services.trainer.recover()
    await asyncio.to_thread(remove_temporaries, services.policy.data_dir / EXPORT_FOLDER)
    await services.runner.recover()
    background.start(services.history.run, "history")
    background.start(partial(services.history.close_interrupted, INTERRUPTED), "history of an earlier server")
    stack.push_async_callback(stop_jobs, services)
    await services.scheduler.start()
    _watch(services, background, rescan, look_again)


async def start_following(services: Services, background: BackgroundTasks, rescan: float) -> None:
    """Take up what another server publishes. To put things right and to train is up to that one."""

    async def look_again() -> None:
        with suppress(InvalidInput):  # the server that writes it says so
            await services.task_state.refresh()
        await services.model_cache.refresh()

    await look_again()
    _watch(services, background, rescan, look_again, hidden=frozenset({STATE_FILE}))


def _watch(
    services: Services,
    background: BackgroundTasks,
    rescan: float,
    refresh: Callable[[], Awaitable[None]],
    hidden: frozenset[str] = frozenset(),
) -> None:
    watched = (services.policy.data_dir, services.models.folder, services.tasks.folder, services.chefs.path.parent)
    watcher = FolderWatcher(watched, refresh, rescan, services.clock, hidden)
    background.start(watcher.run, "watcher of the data folder")


async def stop_jobs(services: Services) -> None:
    """Start no run any more, and cancel those under way, exports too."""
    await services.exporter.stop()
    await services.scheduler.stop()
    await services.trainer.stop(services.trainer.runs.values())
