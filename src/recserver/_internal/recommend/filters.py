"""Conditions on item attributes: ``genre=Comedy``, ``price<20``, ``released>=2020-01-01``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Required

from pydantic import Field, PlainValidator
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from recserver._internal.core.errors import quoted
from recserver._internal.core.validation.values import Marker, unicode_text

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")

RESERVED_CHARACTERS = frozenset("<>=!*:|")
"""Characters that attribute names must not contain, so that conditions are unambiguous."""

MAX_ATTRIBUTE_LENGTH = 100
MAX_VALUE_LENGTH = 256
"""Characters of one value; longer texts are not stored as attribute values either."""
MAX_VALUES = 100
MAX_CONDITIONS = 50

EXAMPLE = "write it like genre=Comedy, price<20 or released>=2020-01-01"
_PATTERN = re.compile(r"([^<>=!]*)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_OPERATOR_SIGNS = ("=", "<", ">")
_KEYS = frozenset({"attribute", "operator", "value", "values"})


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that items must meet.

    Attributes:
        attribute: the name of an attribute.
        operator: one of :data:`OPERATORS`.
        values: what the attribute is compared with, as text whatever its kind. ``=`` with several values means any
            of them, ``!=`` none of them; other operators have one value.
    """

    attribute: str
    operator: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.attribute}{self.operator}{' or '.join(self.values)}"


def is_attribute_name(name: str) -> bool:
    """Whether ``name`` is valid as the name of an attribute."""
    return 0 < len(name) <= MAX_ATTRIBUTE_LENGTH and name == name.strip() and RESERVED_CHARACTERS.isdisjoint(name)


def parse_condition(condition: object) -> Condition:
    """Parse a text such as ``price<20``, or an object with ``attribute``, ``operator`` (default ``=``) and either
    ``value`` or ``values``. Spaces around names and values are ignored.

    Raises:
        ValueError: with one sentence that says what is wrong.
    """
    if isinstance(condition, Condition):
        return condition
    if isinstance(condition, str):
        match = _PATTERN.fullmatch(condition)
        if match is None:
            raise ValueError(f"{quoted(condition)} is not a valid condition: {EXAMPLE}")
        attribute, operator, value = match.groups()
        if value.lstrip()[:1] in _OPERATOR_SIGNS:
            raise ValueError(
                f"{quoted(condition)} has two operators: {EXAMPLE}, "
                "or give attribute, operator and value separately"
            )
        return _validated(attribute, operator, [value])
    if not isinstance(condition, Mapping):
        raise ValueError(f"a condition must be text or an object: {EXAMPLE}")
    return _from_object(condition)


def _from_object(parts: Mapping[object, object]) -> Condition:
    if unknown := next((key for key in parts if key not in _KEYS), None):
        raise ValueError(
            f"{quoted(unknown)} is not a key of a condition: use attribute, operator, and value or values"
        )
    attribute, operator = parts.get("attribute"), parts.get("operator", "=")
    if not isinstance(attribute, str):
        raise ValueError("a condition must name its attribute as text")
    if operator not in OPERATORS:
        raise ValueError(f"the operator of a condition must be one of {' '.join(OPERATORS)}")
    if ("value" in parts) == ("values" in parts):
        raise ValueError(f"a condition on {quoted(attribute)} must have either value or values")
    values = parts["values"] if "values" in parts else [parts["value"]]
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"the values of a condition on {quoted(attribute)} must be a list")
    return _validated(attribute, str(operator), [_as_text(value, attribute) for value in values])


def _as_text(value: object, attribute: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int) and abs(value) < 10**MAX_VALUE_LENGTH:
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"a value of a condition on {quoted(attribute)} must be text or a number")
    return value


def _validated(attribute: str, operator: str, values: list[str]) -> Condition:
    name = unicode_text(attribute.strip())
    if not name:
        raise ValueError(f"a condition must begin with the name of an attribute: {EXAMPLE}")
    if not is_attribute_name(name):
        raise ValueError(
            f"{quoted(name)} is not a valid attribute name: names have up to {MAX_ATTRIBUTE_LENGTH} characters "
            f"and none of {' '.join(sorted(RESERVED_CHARACTERS))}"
        )
    if not 1 <= len(values) <= MAX_VALUES:
        raise ValueError(f"a condition on {quoted(name)} must have 1 to {MAX_VALUES} values")
    if len(values) > 1 and operator not in ("=", "!="):
        raise ValueError(f"a condition on {quoted(name)} with {operator} must have one value")
    texts = tuple(dict.fromkeys(unicode_text(value.strip()) for value in values))
    for text in texts:
        if not text:
            raise ValueError(f"a condition on {quoted(name)} must have a value: {EXAMPLE}")
        if len(text) > MAX_VALUE_LENGTH:
            raise ValueError(
                f"a value of a condition on {quoted(name)} must have at most {MAX_VALUE_LENGTH} characters"
            )
    return Condition(name, operator, texts)


def parse_conditions(conditions: object) -> list[Condition]:
    """Parse up to :data:`MAX_CONDITIONS` conditions; a single one is a list of one.

    Raises:
        ValueError: with one sentence about the first invalid one.
    """
    if isinstance(conditions, str | Mapping | Condition):
        conditions = [conditions]
    if not isinstance(conditions, Sequence):
        raise ValueError(f"must be a list of conditions: {EXAMPLE}")
    if len(conditions) > MAX_CONDITIONS:
        raise ValueError(f"must be at most {MAX_CONDITIONS} conditions")
    return [parse_condition(condition) for condition in conditions]


class ConditionInput(TypedDict, total=False):
    """A condition on an attribute, with either ``value`` or ``values``."""

    attribute: Required[str]
    operator: Literal["=", "!=", "<", "<=", ">", ">="]
    value: str | float | bool
    values: Sequence[str | float | bool]


_INPUT = str | ConditionInput

Conditions = Annotated[
    Sequence[str | ConditionInput | Condition],
    PlainValidator(
        parse_conditions,
        json_schema_input_type=Annotated[list[_INPUT], Field(max_length=MAX_CONDITIONS)] | _INPUT,
    ),
    Marker.LIST,
]
