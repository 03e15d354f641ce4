"""Builds and starts the components of a server over a data folder, as its writer or as a follower."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from recserver._internal.chefs.chef_store import ChefStore
from recserver._internal.core.background_tasks import BackgroundTasks
from recserver._internal.core.clock import Clock
from recserver._internal.core.errors import InvalidInput, ServerCannotStart
from recserver._internal.core.events import EventBus
from recserver._internal.recommend.micro_batching import MicroBatcher
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.repair import ModelRepairer
from recserver._internal.registry.version_lifecycle import ModelVersions
from recserver._internal.registry.version_store import VersionStore
from recserver._internal.scheduling.run_history import RunHistory
from recserver._internal.scheduling.run_history_reader import ReadOnlyRunHistory
from recserver._internal.scheduling.run_recorder import RunRecorder
from recserver._internal.scheduling.scheduler import Scheduler
from recserver._internal.scheduling.task_runner import TaskRunner
from recserver._internal.scheduling.task_state import TaskStateStore
from recserver._internal.server.service.services import Services
from recserver._internal.server.settings import Settings
from recserver._internal.storage.atomic_files import remove_temporaries, to_thread_shielded
from recserver._internal.storage.folder_lock import DataLock
from recserver._internal.storage.folder_watcher import FolderWatcher
from recserver._internal.training.executors.protocol import Executor
from recserver._internal.training.export.export_job import EXPORT_FOLDER
from recserver._internal.training.exporter import Exporter
from recserver._internal.training.publisher import Publisher
from recserver._internal.training.task_store import TaskStore
from recserver._internal.training.trainer import INTERRUPTED, Trainer

STATE_FILE = ".scheduler.json"


async def open_for_writing(path: Path, stack: AsyncExitStack, lock_holder: int | None = None) -> Path:
    """The data folder as an absolute path, created if needed, and locked before anything in it is changed.

    Args:
        stack: unlocks the folder.
        lock_holder: the process that is shown to others as the holder of the lock; None is this one.
    """
    data = await asyncio.to_thread(_make_folders, path)
    lock = DataLock(data, lock_holder)
    stack.push_async_callback(asyncio.to_thread, lock.release)
    await to_thread_shielded(lock.acquire)
    await asyncio.to_thread(_make_folders, data, "models", "tasks", "config")
    return data


async def open_for_reading(path: Path) -> Path:
    """The data folder as an absolute path.

    Raises:
        ServerCannotStart: if it does not exist.
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
    """All components, not started.

    Args:
        model_memory: maximum bytes of the models in memory.
    """
    policy = settings.source_policy(data)
    models, tasks = ModelStore(data / "models"), TaskStore(data / "tasks")
    chefs, task_state = ChefStore(data / "config" / "restaurant_data.yaml"), TaskStateStore(data / STATE_FILE)
    history = (ReadOnlyRunHistory if settings.read_only else RunHistory)(
        data / "history.db", clock, keep_days=settings.history_days, keep_runs=settings.history_runs
    )
    model_cache, version_store = ModelCache(models, events, model_memory), VersionStore(models)
    versions = ModelVersions(
        models=models, version_store=version_store, model_cache=model_cache, clock=clock,
        max_versions=settings.model_versions,
    )  # fmt: skip
    repairer = ModelRepairer(models=models, store=version_store, model_cache=model_cache, clock=clock)
    trainer = Trainer(
        models=models, version_store=version_store, publisher=Publisher(versions, clock), model_cache=model_cache,
        executor=executor, policy=policy, limits=settings.limits, background=background, clock=clock,
        events=events,
    )  # fmt: skip
    recorder = RunRecorder(task_state=task_state, history=history, clock=clock, events=events)
    runner = TaskRunner(
        tasks=tasks, models=models, chefs=chefs, task_state=task_state, recorder=recorder,
        trainer=trainer, model_cache=model_cache, clock=clock,
    )  # fmt: skip
    scheduler = Scheduler(runner, background=background, clock=clock, events=events)
    return Services(
        write_lock=asyncio.Lock(), clock=clock, policy=policy, models=models, chefs=chefs, tasks=tasks,
        task_state=task_state, history=history, model_cache=model_cache, versions=versions, repairer=repairer,
        executor=executor, trainer=trainer, runner=runner, scheduler=scheduler, batcher=MicroBatcher(),
        exporter=Exporter(executor, background, clock),
    )  # fmt: skip


async def start_writing(
    services: Services, background: BackgroundTasks, rescan: float, stack: AsyncExitStack
) -> None:
    """Recover from an interrupted server, and start all components. ``stack`` stops the jobs."""

    async def refresh() -> None:
        await services.model_cache.refresh()
        await services.scheduler.reconcile()

    services.model_cache.on_damage = services.repairer.repair
    await services.task_state.open()
    await services.history.open()
    await services.trainer.recover()
    await asyncio.to_thread(remove_temporaries, services.policy.data_dir / EXPORT_FOLDER)
    await services.runner.recover()
    await services.history.close_interrupted(INTERRUPTED)
    background.start(services.history.run, "history")
    stack.push_async_callback(stop_jobs, services)
    await services.scheduler.start()
    _watch(services, background, rescan, refresh)


async def start_following(services: Services, background: BackgroundTasks, rescan: float) -> None:
    """Load what the writer publishes, without recovering or training anything."""

    async def refresh() -> None:
        with suppress(InvalidInput):  # the writer reports it
            await services.task_state.refresh()
        await services.model_cache.refresh()

    await refresh()
    _watch(services, background, rescan, refresh, hidden=frozenset({STATE_FILE}))


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
    """Start no further runs, and cancel active runs and exports."""
    await services.exporter.stop()
    await services.scheduler.stop()
    await services.trainer.stop(services.trainer.runs.values())
