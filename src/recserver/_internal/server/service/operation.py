"""Operations: coroutines that validate their arguments by their own signatures, and say how HTTP offers them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, ParamSpec, Required, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ValidationError, validate_call

from recserver._internal.core.errors import InvalidInput, ReadOnly, StorageUnreadable, os_error_text
from recserver._internal.core.validation.messages import field_errors
from recserver._internal.core.validation.values import Marker, parse_bool

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[P, Coroutine[Any, Any, T]]

Scope = Literal["open", "read", "train", "admin"]
"""Who may call an operation: anyone, or the holder of a key of this scope; each scope includes those before it."""

Changes = Literal["running", "definitions"]

READ_ONLY_MESSAGE = (
    "This server is read-only: send changes to the server that writes its data folder, "
    "or start this one without --read-only."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What HTTP and the documentation need to know of an operation.

    Attributes:
        methods: the HTTP methods that call it; none if it exists in the library only.
        paths: path parameters that its path may end with, for the first method, such as ``/{model_id}``.
        scope: who may call it.
        changes: what it changes: what is running, or definitions; None for nothing. A read-only server refuses
            changes, and calls that change definitions wait for each other.
        dry_run: name of a boolean argument with which a call changes nothing.
        from_model: whether it needs a loaded model and nothing else, so that every process can perform it.
        cacheable: whether the result depends on its arguments and one version of a model, and on nothing else.
        reports_progress: whether it yields its progress, so that each line is sent at once.
        may_wait: whether it may take long, so that it is cancelled when its client disconnects.
        aliases: other names of its arguments in requests.
        example: arguments of an example.
    """

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    scope: Scope
    changes: Changes | None = None
    dry_run: str | None = None
    from_model: bool = False
    cacheable: bool = False
    reports_progress: bool = False
    may_wait: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of an operation.

    Attributes:
        types: name → annotation. ``**options: Unpack[SomeTypedDict]`` stands for the keys of that dictionary.
        options: the TypedDict whose keys are further parameters, if there is one.
        required: names of those without a default.
        accepts_any: whether it accepts any others.
    """

    types: Mapping[str, Any]
    options: type | None
    required: frozenset[str]
    accepts_any: bool

    def marked(self, marker: Marker) -> frozenset[str]:
        """The names of the parameters whose types have a marker."""
        return frozenset(name for name, kind in self.types.items() if marker in _metadata(kind))


def operation(
    methods: str,
    *paths: str,
    scope: Scope,
    changes: Changes | None = None,
    dry_run: str | None = None,
    from_model: bool = False,
    cacheable: bool = False,
    reports_progress: bool = False,
    may_wait: bool = False,
    aliases: Mapping[str, str] | None = None,
    example: Mapping[str, Any] | None = None,
) -> Callable[[Operation[P, T]], Operation[P, T]]:
    """A decorator that makes a coroutine an operation; :class:`Traits` explains its arguments.

    It validates the arguments of every call by the annotations of the coroutine. None counts as absent. All errors
    are reported together, as one :class:`InvalidInput`.
    """
    traits = Traits(
        methods=tuple(methods.split()),
        paths=paths,
        scope=scope,
        changes=changes,
        dry_run=dry_run,
        from_model=from_model,
        cacheable=cacheable,
        reports_progress=reports_progress,
        may_wait=may_wait,
        aliases=aliases or {},
        example=example or {},
    )

    def decorate(function: Operation[P, T]) -> Operation[P, T]:
        call = _validating(function, traits)
        call.traits = traits  # type: ignore[attr-defined]
        return call

    return decorate


def _validating(function: Operation[P, T], traits: Traits) -> Operation[P, T]:
    @validate_call  # on a coroutine function it would validate only when awaited
    @functools.wraps(function)
    def validated(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, T]:
        return function(*args, **kwargs)

    names = list(inspect.signature(function).parameters)
    exclusive = traits.changes == "definitions"

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) > len(names):
            raise TypeError(f"{function.__name__} takes {len(names) - 1} arguments at most")
        if traits.changes and args[0].read_only and not _is_true(kwargs.get(traits.dry_run or "")):
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
                async with args[0]._services.write_lock:
                    return await work
        except OSError as error:
            raise StorageUnreadable(
                f"The data folder cannot be used at the moment ({os_error_text(error)}): "
                "check its disk and permissions, then try again."
            ) from error

    return call


def traits_of(function: Callable[..., Any]) -> Traits | None:
    """The traits of an operation; None of any other function."""
    return getattr(function, "traits", None)


@functools.cache
def parameters_of(function: Callable[..., Any]) -> Parameters:
    """The parameters of an operation, which is given without its instance."""
    types, options, required, accepts_any = dict[str, Any](), None, set[str](), False
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            types[parameter.name] = hints[parameter.name]
            required |= {parameter.name} if parameter.default is parameter.empty else set()
        elif unpacked := get_args(hints[parameter.name]):
            options = unpacked[0]
            fields = get_type_hints(options, include_extras=True)
            types |= {name: _without_qualifier(kind) for name, kind in fields.items()}
            required |= {name for name, kind in fields.items() if get_origin(kind) is Required}
        else:
            accepts_any = True
    return Parameters(types, options, frozenset(required), accepts_any)


def _without_qualifier(annotation: Any) -> Any:
    """The type of a TypedDict's field, which may be ``Required``."""
    return get_args(annotation)[0] if get_origin(annotation) in (Required, NotRequired) else annotation


def _metadata(annotation: Any) -> Iterator[Any]:
    """The metadata of a type, and of the types that it is made of."""
    yield from getattr(annotation, "__metadata__", ())
    for argument in get_args(annotation):
        yield from _metadata(argument)


def _is_true(value: object) -> bool:
    """Whether an argument that was not validated yet is a boolean that is true."""
    try:
        return parse_bool(value)
    except ValueError:
        return False
