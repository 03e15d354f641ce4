"""What makes a coroutine a verb: its arguments are checked against its own signature."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
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
    "This server is read-only and changes nothing: ask the one that writes its data folder, "
    "or start it without --read-only."
)


@dataclass(frozen=True, slots=True)
class Services:
    """What the verbs work with. ``changing`` is held by whoever changes a definition."""

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
    """Base of the groups of verbs."""

    draining = False
    """Whether the server is closing."""

    read_only = False
    """Whether nothing may be changed."""

    events: EventBus
    """Tells what happens, as it happens."""

    @property
    def services(self) -> Services:
        """What the verbs work with; only an open server has it."""
        raise NotImplementedError


def operation(function: Operation[P, T]) -> Operation[P, T]:
    """Check the arguments of every call by the annotations of ``function``, which changes nothing.

    None counts as absent. All faults are reported together, as one :class:`InvalidInput`.
    """
    return _operation(function, changes=False, exclusive=False)


def control(function: Operation[P, T]) -> Operation[P, T]:
    """A :func:`verb` that changes what runs, and no definition. A read-only server refuses it."""
    return _operation(function, changes=True, exclusive=False)


def mutation(function: Operation[P, T]) -> Operation[P, T]:
    """A :func:`verb` that changes definitions. It waits for the one before it, so that no change is lost.

    A read-only server refuses it.
    """
    return _operation(function, changes=True, exclusive=True)


def mutation_unless(dry_run: str) -> Callable[[Operation[P, T]], Operation[P, T]]:
    """A :func:`changing_verb` that changes nothing where the argument called ``looks`` is on."""
    return lambda function: _operation(function, changes=True, exclusive=True, dry_run=dry_run)


def _operation(
    function: Callable[P, Coroutine[Any, Any, T]], *, changes: bool, exclusive: bool, dry_run: str | None = None
) -> Callable[P, Coroutine[Any, Any, T]]:
    @validate_call  # of a coroutine function it would check only when awaited
    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, T]:
        return function(*args, **kwargs)

    names, is_open = _parameters(function)

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) > len(names):
            raise TypeError(f"{function.__name__} takes {len(names) - 1} arguments at most")
        if changes and args[0].read_only and not _is_true(kwargs.get(dry_run or "")):
            raise ReadOnly(READ_ONLY_MESSAGE)
        given = dict(zip(names[1:], args[1:], strict=False)) | kwargs
        given = {name: value for name, value in given.items() if value is not None}
        try:
            work = checked(args[0], **given)
        except ValidationError as error:
            raise InvalidInput.of_fields(field_errors(error)) from None
        try:
            with closing(work):  # it may never begin: the server is not open, or the caller gives up waiting
                if not exclusive:
                    return await work
                async with args[0].services.write_lock:
                    return await work
        except OSError as error:
            raise StorageUnreadable(
                f"The data folder cannot be used just now ({os_error_text(error)}): "
                "check its disk and permissions, then try again."
            ) from error

    call.fields = tuple(names[1:])  # type: ignore[attr-defined]
    call.is_open = is_open  # type: ignore[attr-defined]
    return call


def _is_true(value: object) -> bool:
    """Whether an argument that was not checked yet is a switch that is on."""
    try:
        return parse_bool(value)
    except ValueError:
        return False


def _parameters(function: Callable[..., Any]) -> tuple[list[str], bool]:
    """The names of a function's arguments, and whether it takes any others.

    ``**definition: Unpack[SomeTypedDict]`` stands for the keys of that dictionary, ``**definition: Any`` for any.
    """
    names, is_open = list[str](), False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            names.append(parameter.name)
        elif shapes := get_args(get_type_hints(function, include_extras=True)[parameter.name]):
            names += get_type_hints(shapes[0])
        else:
            is_open = True
    return names, is_open


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a verb's arguments."""
    names: tuple[str, ...] = function.fields  # type: ignore[attr-defined]
    return names


def accepts_any(function: Callable[..., Any]) -> bool:
    """Whether a verb takes further arguments under any names."""
    is_open: bool = function.is_open  # type: ignore[attr-defined]
    return is_open
