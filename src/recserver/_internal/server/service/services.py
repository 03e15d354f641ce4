"""The components that operations use, and the base class of the groups of operations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from recserver._internal.chefs.chef_store import ChefStore
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.clock import Clock
from recserver._internal.core.events import EventBus
from recserver._internal.recommend.micro_batching import MicroBatcher
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.repair import ModelRepairer
from recserver._internal.registry.version_lifecycle import ModelVersions
from recserver._internal.scheduling.run_history import RunHistory
from recserver._internal.scheduling.scheduler import Scheduler
from recserver._internal.scheduling.task_runner import TaskRunner
from recserver._internal.scheduling.task_state import TaskStateStore
from recserver._internal.training.executors.protocol import Executor
from recserver._internal.training.exporter import Exporter
from recserver._internal.training.task_store import TaskStore
from recserver._internal.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Services:
    """The components that operations use. ``write_lock`` is held while a definition is changed."""

    write_lock: asyncio.Lock
    clock: Clock
    policy: SourcePolicy
    models: ModelStore
    chefs: ChefStore
    tasks: TaskStore
    task_state: TaskStateStore
    history: RunHistory
    model_cache: ModelCache
    versions: ModelVersions
    repairer: ModelRepairer
    executor: Executor
    trainer: Trainer
    runner: TaskRunner
    scheduler: Scheduler
    batcher: MicroBatcher
    exporter: Exporter


class Operations:
    """Base class of the groups of operations."""

    tag: ClassVar[str]
    """The heading of the group in the documentation."""

    draining: bool = False
    """Whether the server is closing."""

    read_only: bool = False
    """Whether changes are refused."""

    events: EventBus
    """Publishes the server's events."""

    _waits: set[Callable[[], None]]
    """Each ends one wait for the end of a run."""

    @property
    def _services(self) -> Services:
        """The components of the open server.

        Raises:
            Draining: if the server is not open.
        """
        raise NotImplementedError
