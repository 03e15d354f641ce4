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
from recserver.core.task_group import TaskOwner
from recserver.recommend.micro_batching import Together
from recserver.registry.model_cache import Catalog
from recserver.registry.model_store import ModelStore
from recserver.registry.repair import Mender
from recserver.registry.version_lifecycle import ModelVersions
from recserver.registry.version_store import VersionStore
from recserver.scheduling.run_history import History
from recserver.scheduling.run_history_reader import HistoryReader
from recserver.scheduling.run_recorder import RunRecorder
from recserver.scheduling.scheduler import Scheduler
from recserver.scheduling.task_runner import TaskRunner
from recserver.scheduling.task_state import Journal
from recserver.server.service.operation import Parts
from recserver.server.settings import Settings
from recserver.storage.atomic_files import clear_temporaries, to_the_end
from recserver.storage.folder_lock import DataLock
from recserver.storage.folder_watcher import Watcher
from recserver.training.executors.protocol import Executor
from recserver.training.export.export_job import FOLDER
from recserver.training.exporter import Exporter
from recserver.training.publisher import Publisher
from recserver.training.task_store import TaskStore
from recserver.training.trainer import INTERRUPTED, Trainer

JOURNAL = ".scheduler.json"


async def folder_to_write(path: Path, stack: AsyncExitStack, holder: int | None = None) -> Path:
    """The data folder as an absolute path, made if need be and locked before anything in it is touched.

    ``stack`` unlocks it; ``holder`` is the process that others are told has it.
    """
    data = await asyncio.to_thread(_make, path)
    lock = DataLock(data, holder)
    stack.push_async_callback(asyncio.to_thread, lock.release)
    await to_the_end(lock.take)
    await asyncio.to_thread(_make, data, "models", "tasks", "config")
    return data


async def folder_to_follow(path: Path) -> Path:
    """The data folder as an absolute path; it must be there.

    Raises:
        ServerCannotStart: if it is not.
    """
    data = await asyncio.to_thread(path.resolve)
    if not await asyncio.to_thread(data.is_dir):
        raise ServerCannotStart(f"There is no data folder {data} to serve read-only: choose another with --data.")
    return data


def _make(data: Path, *names: str) -> Path:
    data = data.resolve()
    try:
        for folder in [data / name for name in names] or [data]:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerCannotStart(
            f"The data folder {data} cannot be used ({error.strerror}): choose another with --data."
        ) from None
    return data


def build(
    data: Path,
    settings: Settings,
    memory: int | None,
    *,
    clock: Clock,
    events: EventBus,
    executor: Executor,
    owner: TaskOwner,
) -> Parts:
    """Every part, at rest.

    Args:
        memory: bytes that the models in memory may have together.
    """
    policy = settings.source_policy(data)
    models, tasks = ModelStore(data / "models"), TaskStore(data / "tasks")
    chefs, journal = ChefStore(data / "config" / "restaurant_data.yaml"), Journal(data / JOURNAL)
    history = (HistoryReader if settings.read_only else History)(
        data / "history.db", clock, keep_days=settings.history_days, keep_runs=settings.history_runs
    )
    catalog, store = Catalog(models, events, memory), VersionStore(models)
    versions = ModelVersions(
        models=models, store=store, catalog=catalog, clock=clock, keep=settings.model_versions
    )
    mender = Mender(models=models, store=store, catalog=catalog, clock=clock)
    trainer = Trainer(
        models=models, store=store, publisher=Publisher(versions, clock), catalog=catalog, executor=executor,
        policy=policy, limits=settings.limits, owner=owner, clock=clock, events=events,
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
    return Parts(
        changing=asyncio.Lock(), clock=clock, policy=policy, models=models, chefs=chefs, tasks=tasks,
        journal=journal, history=history, catalog=catalog, versions=versions, mender=mender,
        executor=executor, trainer=trainer, runner=runner, scheduler=scheduler, together=Together(),
        exporter=Exporter(executor, owner, clock),
    )  # fmt: skip


async def start_writing(parts: Parts, owner: TaskOwner, rescan: float, stack: AsyncExitStack) -> None:
    """Put right what a killed server left, and start everything; ``stack`` ends the trainings."""

    async def look_again() -> None:
        await parts.catalog.look_again()
        await parts.scheduler.reconcile()

    parts.catalog.on_damage = parts.mender.mend
    await parts.journal.open()
    await parts.history.open()
    await parts.trainer.recover()
    await clear_temporaries(parts.policy.data_dir / FOLDER)
    await parts.runner.recover()
    owner.start(parts.history.run, "history")
    owner.start(partial(parts.history.close_left_open, INTERRUPTED), "history of an earlier server")
    stack.push_async_callback(end_trainings, parts)
    await parts.scheduler.start()
    _watch(parts, owner, rescan, look_again)


async def start_following(parts: Parts, owner: TaskOwner, rescan: float) -> None:
    """Take up what another server publishes. To put things right and to train is up to that one."""

    async def look_again() -> None:
        with suppress(InvalidInput):  # the server that writes it says so
            await parts.journal.look_again()
        await parts.catalog.look_again()

    await look_again()
    _watch(parts, owner, rescan, look_again, hidden=frozenset({JOURNAL}))


def _watch(
    parts: Parts,
    owner: TaskOwner,
    rescan: float,
    look_again: Callable[[], Awaitable[None]],
    hidden: frozenset[str] = frozenset(),
) -> None:
    watched = (parts.policy.data_dir, parts.models.folder, parts.tasks.folder, parts.chefs.path.parent)
    watcher = Watcher(watched, look_again, rescan, parts.clock, hidden)
    owner.start(watcher.run, "watcher of the data folder")


async def end_trainings(parts: Parts) -> None:
    """Start no run any more, and cancel those under way, exports too."""
    await parts.exporter.stop()
    await parts.scheduler.stop()
    await parts.trainer.stop(parts.trainer.runs.values())
