"""The components that operations use, and the base class of the groups of operations."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from recserver.chefs.chef_store import ChefStore
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.clock import Clock
from recserver.core.events import EventBus
from recserver.recommend.micro_batching import MicroBatcher
from recserver.registry.model_cache import ModelCache
from recserver.registry.model_store import ModelStore
from recserver.registry.repair import ModelRepairer
from recserver.registry.version_lifecycle import ModelVersions
from recserver.scheduling.run_history import RunHistory
from recserver.scheduling.scheduler import Scheduler
from recserver.scheduling.task_runner import TaskRunner
from recserver.scheduling.task_state import TaskStateStore
from recserver.training.executors.protocol import Executor
from recserver.training.exporter import Exporter
from recserver.training.task_store import TaskStore
from recserver.training.trainer import Trainer


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

    @property
    def _services(self) -> Services:
        """The components of the open server.

        Raises:
            Draining: if the server is not open.
        """
        raise NotImplementedError
