"""Operations: coroutines whose arguments are validated against their own signatures."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, get_args, get_type_hints

from pydantic import ValidationError, validate_call

from recserver.chefs.chef_store import ChefStore
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.clock import Clock
from recserver.core.errors import InvalidInput, ReadOnly, StorageUnreadable, os_error_text
from recserver.core.events import EventBus
from recserver.core.validation.messages import field_errors
from recserver.core.validation.values import parse_bool
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

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[P, Coroutine[Any, Any, T]]

Result = dict[str, Any]

READ_ONLY_MESSAGE = (
    "This server is read-only: send changes to the server that writes its data folder, "
    "or start this one without --read-only."
)


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

    draining = False
    """Whether the server is closing."""

    read_only = False
    """Whether changes are refused."""

    events: EventBus
    """Publishes the server's events."""

    @property
    def services(self) -> Services:
        """The components of the open server.

        Raises:
            Draining: if the server is not open.
        """
        raise NotImplementedError


def _decorator(
    *, changes: bool = False, exclusive: bool = False, dry_run: str | None = None
) -> Callable[[Operation[P, T]], Operation[P, T]]:
    """A decorator that validates the arguments of every call by the annotations of the decorated coroutine.

    None counts as absent. All errors are reported together, as one :class:`InvalidInput`.

    Args:
        changes: whether a read-only server refuses the call.
        exclusive: whether calls wait for each other, so that no change is lost.
        dry_run: name of a boolean argument with which a call changes nothing.
    """

    def decorate(function: Operation[P, T]) -> Operation[P, T]:
        @validate_call  # on a coroutine function it would validate only when awaited
        @functools.wraps(function)
        def validated(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, T]:
            return function(*args, **kwargs)

        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            if len(args) > len(names):
                raise TypeError(f"{function.__name__} takes {len(names) - 1} arguments at most")
            if changes and args[0].read_only and not _is_true(kwargs.get(dry_run or "")):
                raise ReadOnly(READ_ONLY_MESSAGE)
            arguments = dict(zip(names[1:], args[1:], strict=False)) | kwargs
            try:
                work = validated(args[0], **{key: value for key, value in arguments.items() if value is not None})
            except ValidationError as error:
                raise InvalidInput.of_fields(field_errors(error)) from None
            try:
                with closing(work):  # it never starts if the server is not open, or the caller is cancelled
                    if not exclusive:
                        return await work
                    async with args[0].services.write_lock:
                        return await work
            except OSError as error:
                raise StorageUnreadable(
                    f"The data folder cannot be used at the moment ({os_error_text(error)}): "
                    "check its disk and permissions, then try again."
                ) from error

        return call

    return decorate


operation = _decorator()
"""An operation that changes nothing."""

control = _decorator(changes=True)
"""An operation that changes what is running, but no definition. A read-only server refuses it."""

mutation = _decorator(changes=True, exclusive=True)
"""An operation that changes definitions. It waits for the previous one. A read-only server refuses it."""

mutation_unless_dry_run = _decorator(changes=True, exclusive=True, dry_run="dry_run")
"""A :data:`mutation` that changes nothing if its argument ``dry_run`` is true."""


def _is_true(value: object) -> bool:
    """Whether an argument that was not validated yet is a boolean that is true."""
    try:
        return parse_bool(value)
    except ValueError:
        return False


@functools.cache
def parameters_of(function: Callable[..., Any]) -> tuple[Sequence[str], bool]:
    """The names of an operation's arguments, and whether it accepts any others.

    ``**definition: Unpack[SomeTypedDict]`` stands for the keys of that dictionary, ``**definition: Any`` for any.
    """
    names, accepts_any = list[str](), False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            names += [parameter.name] if parameter.name != "self" else []
        elif typed_dict := get_args(get_type_hints(function, include_extras=True)[parameter.name]):
            names += get_type_hints(typed_dict[0])
        else:
            accepts_any = True
    return tuple(names), accepts_any


def with_warnings(result: Result, warnings: Sequence[str]) -> Result:
    """``result``, with ``warnings`` if there are any."""
    return result | ({"warnings": list(warnings)} if warnings else {})
