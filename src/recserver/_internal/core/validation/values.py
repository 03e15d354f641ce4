"""Values in requests and files: ids, numbers, booleans, intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from recserver._internal.core.errors import Conflict, quoted
from recserver._internal.core.validation.json_depth import levels

N = TypeVar("N", int, float)

MAX_ENTITY_ID_LENGTH = 256
"""Characters of a user or item id."""

MAX_OBJECT_DEPTH = 8
"""Levels of nesting in an object. Reading it back from YAML has a limit of its own."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_DECIMAL = re.compile(r"[0-9]{1,20}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def check_new_id(value: object) -> str:
    """``value`` if it is a valid id of a new model, data chef or task: a safe file name on every system.

    Raises:
        ValueError: if it is not, with what an id may contain.
    """
    if not isinstance(value, str):
        raise ValueError("must be text")
    if not _ID.fullmatch(value) or ".." in value or value.endswith("."):
        raise ValueError(
            f"{quoted(value)} is not usable as an id: take 1 to 100 of A-Z a-z 0-9 _ . -, "
            "beginning with a letter or digit, without '..' and not ending in '.'"
        )
    if _WINDOWS_DEVICE.fullmatch(value):
        raise ValueError(f"{quoted(value)} is a device name on Windows: choose another id")
    return value


def check_new_model_id(value: object) -> str:
    """As :func:`check_new_id`; suffixes of the model's own files are rejected too."""
    text = check_new_id(value)
    if text.casefold().endswith(("_config", "_metadata")):
        raise ValueError(
            f"{quoted(text)} ends like a model's file: choose an id not ending in _config or _metadata"
        )
    return text


def require_new(kind: type[Conflict], noun: str, new_id: str, known: Iterable[str], overwrite: bool) -> bool:
    """Whether ``new_id`` exists and may be overwritten. Ids that differ in case only are the same.

    Raises:
        Conflict: of the type ``kind``, if it exists and may not be overwritten.
    """
    existing = same_id(new_id, known)
    if existing is None or (overwrite and existing == new_id):
        return existing is not None
    hint = ", or pass overwrite: true" if existing == new_id else ""
    raise kind(f"{noun} {quoted(existing)} exists: choose another name{hint}.")


def same_id(new_id: str, known: Iterable[str]) -> str | None:
    """The known id that equals ``new_id`` except for case; None if there is none."""
    folded = new_id.casefold()
    return next((known_id for known_id in known if known_id.casefold() == folded), None)


def whole_number(value: object) -> int:
    """The integer that ``10``, ``10.0`` or ``"10"`` stands for; text is plain ASCII decimal.

    Raises:
        ValueError: for anything else, booleans and other spellings of numbers included.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return int(value)
    raise ValueError("must be a whole number, such as 10")


def real_number(value: object) -> float:
    """``value`` as a finite float.

    Raises:
        ValueError: for anything but an integer or float.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def within(read: Callable[[object], N], lowest: float, highest: float, message: str) -> Callable[[object], N]:
    """A validator for numbers within limits, both included; ``message`` says what is allowed."""

    def check(value: object) -> N:
        number = read(value)
        if not lowest <= number <= highest:
            raise ValueError(message)
        return number

    return check


def whole_number_between(lowest: int, highest: int, what: str = "a whole number") -> Callable[[object], int]:
    """A validator for whole numbers within limits, both included; ``what`` is their name in its message."""
    return within(whole_number, lowest, highest, f"must be {what} from {lowest} to {highest}")


parse_count = whole_number_between(1, 1000)
"""How many of something are requested at most."""

parse_offset = within(whole_number, 0, math.inf, "must be a whole number of at least 0")

_interval = within(real_number, 1, 31_622_400, "must be from 1 to 31622400 seconds (366 days)")


def interval_seconds(value: object) -> float:
    """``value`` if it is an interval of a task: from 1 second to 366 days, in seconds."""
    number = _interval(value)
    return int(number) if number.is_integer() else number


_DECIMAL_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")


def non_negative_number(value: object) -> float:
    """A number of at least 0; text is plain decimal, such as ``0.5``.

    Raises:
        ValueError: for anything else.
    """
    number = float(value) if isinstance(value, str) and _DECIMAL_NUMBER.fullmatch(value) else real_number(value)
    if number < 0:
        raise ValueError("must not be negative")
    return number


def parse_bool(value: object) -> bool:
    """``value`` as a boolean; the texts ``true``, ``false``, ``1``, ``0`` in any case are accepted."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    raise ValueError("must be true or false")


def entity_id(value: object) -> str:
    """A user or item id as text: ``42`` and ``42.0`` become ``"42"``.

    Raises:
        ValueError: if it is not text or a number, or is not 1 to 256 characters long.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be text or a finite number")
    text = str(value)
    if not 1 <= len(text) <= MAX_ENTITY_ID_LENGTH:
        raise ValueError(f"must be 1 to {MAX_ENTITY_ID_LENGTH} characters long")
    return unicode_text(text)


def unicode_text(value: str) -> str:
    """``value`` if it can be encoded as UTF-8.

    Raises:
        ValueError: if it contains a lone surrogate.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text without lone surrogates") from None
    return value


def _json_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    for depth, level in enumerate(levels(value)):
        if depth >= MAX_OBJECT_DEPTH:
            raise ValueError(f"must not be nested deeper than {MAX_OBJECT_DEPTH} levels")
        for element in level:
            _check_json_value(element)
    return value


def _check_json_value(value: object) -> None:
    if isinstance(value, str):
        unicode_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must contain only finite numbers")
    elif value is not None and not isinstance(value, bool | int | float | dict | list):
        raise ValueError("must contain only values that JSON has")


class Marker(Enum):
    """What the HTTP API needs to know of a type."""

    ID = "id"
    """It identifies something, so that the query of any request may hold it."""
    LIST = "list"
    """It is a list, which a query repeats once for each value."""


EntityIdInput = Annotated[str, Field(min_length=1, max_length=MAX_ENTITY_ID_LENGTH)]
"""A user or item id as it is documented; numbers are accepted too."""

_NEW_ID = Annotated[str, Field(pattern=f"^{_ID.pattern}$", examples=["coffee"])]
_COUNT = Annotated[int, Field(ge=1, le=1000)]
_INTERVAL = Annotated[float, Field(ge=1, le=31_622_400)]

Text = Annotated[str, StringConstraints(strict=True, max_length=100_000), AfterValidator(unicode_text)]
Title = Annotated[str, StringConstraints(strict=True, max_length=10_000), AfterValidator(unicode_text)]
NewId = Annotated[str, BeforeValidator(check_new_id, json_schema_input_type=_NEW_ID), Marker.ID]
NewModelId = Annotated[str, BeforeValidator(check_new_model_id, json_schema_input_type=_NEW_ID), Marker.ID]
KnownId = Annotated[str, StringConstraints(strict=True, min_length=1), Marker.ID]
"""An id to look up: compared with the existing ones, never part of a path."""
OptionalId = Annotated[str, StringConstraints(strict=True, max_length=100_000), Marker.ID]
"""An id to look up; an empty one counts as none."""
EntityId = Annotated[str, BeforeValidator(entity_id, json_schema_input_type=EntityIdInput), Marker.ID]
WholeNumber = Annotated[int, BeforeValidator(whole_number)]
Count = Annotated[int, BeforeValidator(parse_count, json_schema_input_type=_COUNT)]
PageSize = Annotated[
    int,
    BeforeValidator(
        whole_number_between(1, 1_000_000), json_schema_input_type=Annotated[int, Field(ge=1, le=1_000_000)]
    ),
]
Interval = Annotated[int | float, BeforeValidator(interval_seconds, json_schema_input_type=_INTERVAL)]
Timeout = Annotated[
    float,
    BeforeValidator(
        within(real_number, 0, 3600, "must be from 0 to 3600 seconds"),
        json_schema_input_type=Annotated[float, Field(ge=0, le=3600)],
    ),
]
Wait = Annotated[
    float,
    BeforeValidator(
        within(non_negative_number, 0, 3600, "must be from 0 to 3600 seconds"),
        json_schema_input_type=Annotated[float, Field(ge=0, le=3600)],
    ),
]
"""Seconds that a request waits at most; unlike :data:`Timeout` also as text, as a query has it."""
Bool = Annotated[bool, BeforeValidator(parse_bool, json_schema_input_type=bool)]
JsonObject = Annotated[dict[str, Any], BeforeValidator(_json_object, json_schema_input_type=dict[str, Any])]
