"""What a request may wish of an answer: boosts, quotas, interactions sent along, and the checks of them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import PlainValidator
from typing_extensions import TypedDict  # that of typing will do from Python 3.12 on

from recserver.core.errors import quoted
from recserver.core.validation.values import Bool, Count, entity_id, parse_count, real_number, whole_number
from recserver.recommend.filters import Condition, Conditions, is_attribute_name, parse_condition

MAX_IDS = 10_000
"""Items or users that one request may name in a list."""

MAX_BOOSTS = 50
MAX_QUOTAS = 10
MAX_BOOST = 1000.0
MAX_RATING = 1e9
"""Magnitude of a rating that is sent along."""

_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Interaction:
    """One that a request tells of."""

    item_id: str
    rating: float = 1.0


@dataclass(frozen=True, slots=True)
class Boost:
    """Scores of items that fulfil the condition are raised by the factor, or lowered by one below 1."""

    condition: Condition
    factor: float


@dataclass(frozen=True, slots=True)
class MaxPer:
    """Of each value of an attribute, so many items at most."""

    attribute: str
    count: int


def non_negative_number(value: object) -> float:
    """A number of at least 0; text is plain decimal, such as ``0.5``.

    Raises:
        ValueError: for anything else.
    """
    number = float(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else real_number(value)
    if number < 0:
        raise ValueError("must not be negative")
    return number


def fraction(value: object) -> float:
    """A number from 0 to 1."""
    number = non_negative_number(value)
    if number > 1:
        raise ValueError("must be from 0 to 1")
    return number


def parse_offset(value: object) -> int:
    """A whole number of at least 0."""
    number = whole_number(value)
    if number < 0:
        raise ValueError("must be a whole number of at least 0")
    return number


def list_of(read: Callable[[object], T], max_length: int) -> Callable[[object], list[T]]:
    """Reads a list with ``read``, or a single thing as a list of one."""

    def read_all(value: object) -> list[T]:
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > max_length:
            raise ValueError(f"must hold {max_length} at most")
        return [read(one) for one in values]

    return read_all


def parse_interaction(value: object) -> Interaction:
    """An item id, or an object with ``item_id`` and perhaps ``rating``; what else it has does not count.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    if isinstance(value, Interaction):
        return value
    if not isinstance(value, Mapping):
        return Interaction(_item_id(value))
    if value.get("item_id") is None:
        raise ValueError("each interaction must have an item_id")
    rating = value.get("rating")
    number = 1.0 if rating is None else real_number(rating)
    if abs(number) > MAX_RATING:
        raise ValueError(f"the rating of an interaction must be from -{MAX_RATING:g} to {MAX_RATING:g}")
    return Interaction(_item_id(value["item_id"]), number)


def _item_id(value: object) -> str:
    try:
        return entity_id(value)
    except ValueError as error:
        raise ValueError(f"each item's id {error}") from None


def _split_pair(value: object, sign: str, names: tuple[str, str]) -> Mapping[str, Any]:
    """Two named parts: those of an object, or what a text has before and after its last ``sign``."""
    if isinstance(value, str):
        first, _, last = value.rpartition(sign)
        return dict(zip(names, (first, last.strip()), strict=True))
    return value if isinstance(value, Mapping) else {}


def parse_boost(value: object) -> Boost:
    """``genre=Comedy*1.5``, or an object with ``filter`` and ``factor``.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    if isinstance(value, Boost):
        return value
    parts = _split_pair(value, "*", ("filter", "factor"))
    if set(parts) != {"filter", "factor"} or not parts["filter"]:
        raise ValueError(f"{quoted(value)} is no boost: write it like genre=Comedy*1.5")
    try:
        factor = non_negative_number(parts["factor"])
    except ValueError:
        given = quoted(parts["factor"])
        raise ValueError(f"the factor of a boost must be a number such as 1.5, not {given}") from None
    if factor > MAX_BOOST:
        raise ValueError(f"the factor of a boost must be from 0 to {MAX_BOOST:g}")
    return Boost(parse_condition(parts["filter"]), factor)


def parse_max_per(value: object) -> MaxPer:
    """``genre:2``, or an object with ``attribute`` and ``count``.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    if isinstance(value, MaxPer):
        return value
    parts = _split_pair(value, ":", ("attribute", "count"))
    name = parts.get("attribute")
    if set(parts) != {"attribute", "count"} or not isinstance(name, str) or not name:
        raise ValueError(f"{quoted(value)} is no quota: write it like genre:2")
    if not is_attribute_name(name.strip()):
        raise ValueError(f"{quoted(name)} is no name of an attribute: write a quota like genre:2")
    try:
        return MaxPer(name.strip(), parse_count(parts["count"]))
    except ValueError as error:
        raise ValueError(f"the count of a quota {error}") from None


def id_prefix(value: object) -> str:
    """What an id begins with, or comes after; may be empty."""
    return "" if value == "" else entity_id(value)


IdPrefix = Annotated[str, PlainValidator(id_prefix)]
ItemIds = Annotated[list[str], PlainValidator(list_of(_item_id, MAX_IDS))]
UserIds = Annotated[list[str], PlainValidator(list_of(entity_id, MAX_IDS))]
Interactions = Annotated[list[Interaction], PlainValidator(list_of(parse_interaction, MAX_IDS))]
Boosts = Annotated[list[Boost], PlainValidator(list_of(parse_boost, MAX_BOOSTS))]
MaxPers = Annotated[list[MaxPer], PlainValidator(list_of(parse_max_per, MAX_QUOTAS))]
Fraction = Annotated[float, PlainValidator(fraction)]
Offset = Annotated[int, PlainValidator(parse_offset)]
Popularity = Literal["overall", "recent"]


class ItemOptions(TypedDict, total=False):
    """Which items may come, and in which order; :class:`recserver.recommend.query.Query` says what each means."""

    n: Count
    exclude: ItemIds
    candidates: ItemIds
    filter: Conditions
    boost: Boosts
    max_per: MaxPers
    diversity: Fraction


class ExportOptions(ItemOptions, total=False):
    """What may be wished of a list for every user that a model knows."""

    exclude_seen: Bool


class RequestOptions(ItemOptions, total=False):
    """What may be wished of every list that is answered."""

    offset: Offset


class SessionOptions(RequestOptions, total=False):
    """What may be wished of a list for somebody without a name."""

    exclude_seen: Bool
    explain: Bool
    fallback: Bool
    popularity: Popularity


class UserOptions(SessionOptions, total=False):
    """What may be wished of a list for a user."""

    interactions: Interactions


class RankOptions(TypedDict, total=False):
    """What may be wished where the items are given."""

    exclude_seen: Bool
    interactions: Interactions
    boost: Boosts
    diversity: Fraction
    explain: Bool
    fallback: Bool
    popularity: Popularity
