"""Request options: which items to return and how, and the validators of every option."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Required, TypeVar

from pydantic import Field, PlainValidator
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from recserver._internal.core.errors import quoted
from recserver._internal.core.validation.values import (
    MAX_ENTITY_ID_LENGTH,
    Bool,
    Count,
    EntityIdInput,
    Marker,
    entity_id,
    non_negative_number,
    parse_count,
    parse_offset,
    real_number,
    within,
)
from recserver._internal.recommend.filters import (
    Condition,
    ConditionInput,
    Conditions,
    is_attribute_name,
    parse_condition,
)

MAX_IDS = 10_000
"""Items or users in one list of a request."""

MAX_BOOSTS = 50
MAX_QUOTAS = 10
MAX_BOOST = 1000.0
MAX_RATING = 1e9
"""Magnitude of a rating in a request."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Interaction:
    """An interaction of the user that the request contains."""

    item_id: str
    rating: float = 1.0


@dataclass(frozen=True, slots=True)
class Boost:
    """A factor for the scores of the items that meet a condition: above 1 raises them, below 1 lowers them."""

    filter: Condition
    factor: float


@dataclass(frozen=True, slots=True)
class MaxPer:
    """The maximum number of items with the same value of an attribute."""

    attribute: str
    count: int


fraction = within(non_negative_number, 0, 1, "must be from 0 to 1")


def list_of(parse: Callable[[object], T], max_length: int) -> Callable[[object], list[T]]:
    """A validator of lists whose elements ``parse`` validates; a single element is a list of one."""

    def parse_all(value: object) -> list[T]:
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > max_length:
            raise ValueError(f"must have at most {max_length} elements")
        return [parse(element) for element in values]

    return parse_all


def parse_interaction(value: object) -> Interaction:
    """Parse an item id, or an object with ``item_id`` and optionally ``rating``; other keys are ignored.

    Raises:
        ValueError: with one sentence that says what is wrong.
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
    """The parts of an option by name: of an object, or of a text before and after its last ``sign``."""
    if isinstance(value, str):
        first, _, last = value.rpartition(sign)
        return dict(zip(names, (first, last.strip()), strict=True))
    return value if isinstance(value, Mapping) else {}


def parse_boost(value: object) -> Boost:
    """Parse ``genre=Comedy*1.5``, or an object with ``filter`` and ``factor``.

    Raises:
        ValueError: with one sentence that says what is wrong.
    """
    if isinstance(value, Boost):
        return value
    parts = _split_pair(value, "*", ("filter", "factor"))
    if set(parts) != {"filter", "factor"} or not parts["filter"]:
        raise ValueError(f"{quoted(value)} is not a valid boost: write it like genre=Comedy*1.5")
    try:
        factor = non_negative_number(parts["factor"])
    except ValueError:
        given = quoted(parts["factor"])
        raise ValueError(f"the factor of a boost must be a number such as 1.5, not {given}") from None
    if factor > MAX_BOOST:
        raise ValueError(f"the factor of a boost must be from 0 to {MAX_BOOST:g}")
    return Boost(parse_condition(parts["filter"]), factor)


def parse_max_per(value: object) -> MaxPer:
    """Parse ``genre:2``, or an object with ``attribute`` and ``count``.

    Raises:
        ValueError: with one sentence that says what is wrong.
    """
    if isinstance(value, MaxPer):
        return value
    parts = _split_pair(value, ":", ("attribute", "count"))
    name = parts.get("attribute")
    if set(parts) != {"attribute", "count"} or not isinstance(name, str) or not name:
        raise ValueError(f"{quoted(value)} is not a valid quota: write it like genre:2")
    if not is_attribute_name(name.strip()):
        raise ValueError(f"{quoted(name)} is not a valid attribute name: write a quota like genre:2")
    try:
        return MaxPer(name.strip(), parse_count(parts["count"]))
    except ValueError as error:
        raise ValueError(f"the count of a quota {error}") from None


def id_prefix(value: object) -> str:
    """The beginning of an id, or an id to continue after; may be empty."""
    return "" if value == "" else entity_id(value)


class InteractionInput(TypedDict, total=False):
    """An interaction of the user."""

    item_id: Required[str]
    rating: float | None
    """Has the same meaning as in the data; 1 if it is not given."""


class BoostInput(TypedDict):
    """A factor for the scores of the items that meet a condition: above 1 raises them, below 1 lowers them."""

    filter: str | ConditionInput
    factor: float


class MaxPerInput(TypedDict):
    """The maximum number of items with the same value of an attribute."""

    attribute: str
    count: int


_ITEM_IDS = Annotated[list[EntityIdInput], Field(max_length=MAX_IDS)] | EntityIdInput

IdPrefix = Annotated[
    str, PlainValidator(id_prefix, json_schema_input_type=Annotated[str, Field(max_length=MAX_ENTITY_ID_LENGTH)])
]
ItemIds = Annotated[
    Sequence[str], PlainValidator(list_of(_item_id, MAX_IDS), json_schema_input_type=_ITEM_IDS), Marker.LIST
]
UserIds = Annotated[
    Sequence[str], PlainValidator(list_of(entity_id, MAX_IDS), json_schema_input_type=_ITEM_IDS), Marker.LIST
]
Interactions = Annotated[
    Sequence[str | InteractionInput | Interaction],
    PlainValidator(
        list_of(parse_interaction, MAX_IDS),
        json_schema_input_type=Annotated[list[EntityIdInput | InteractionInput], Field(max_length=MAX_IDS)]
        | EntityIdInput
        | InteractionInput,
    ),
    Marker.LIST,
]
Boosts = Annotated[
    Sequence[str | BoostInput | Boost],
    PlainValidator(
        list_of(parse_boost, MAX_BOOSTS),
        json_schema_input_type=Annotated[list[str | BoostInput], Field(max_length=MAX_BOOSTS)] | str | BoostInput,
    ),
    Marker.LIST,
]
MaxPers = Annotated[
    Sequence[str | MaxPerInput | MaxPer],
    PlainValidator(
        list_of(parse_max_per, MAX_QUOTAS),
        json_schema_input_type=Annotated[list[str | MaxPerInput], Field(max_length=MAX_QUOTAS)]
        | str
        | MaxPerInput,
    ),
    Marker.LIST,
]
Fraction = Annotated[float, PlainValidator(fraction, json_schema_input_type=Annotated[float, Field(ge=0, le=1)])]
Offset = Annotated[int, PlainValidator(parse_offset, json_schema_input_type=Annotated[int, Field(ge=0)])]
Popularity = Literal["overall", "recent"]


class ItemOptions(TypedDict, total=False):
    """Options of all lists of items."""

    n: Count
    """Maximum number of items; default 10."""
    exclude: ItemIds
    """Ids of items to leave out."""
    candidates: ItemIds
    """Ids of the only items to consider; by default all."""
    filter: Conditions
    """Conditions on attributes, such as ``genre=Comedy`` or ``price<20``, that items must all meet."""
    boost: Boosts
    """Conditions that raise or lower the scores of the items that meet them, such as ``genre=Comedy*1.5``."""
    max_per: MaxPers
    """Limits on the number of items with the same attribute value, such as ``genre:2``."""
    diversity: Fraction
    """From 0 (relevance only, the default) to 1 (maximum diversity)."""


class ExportOptions(ItemOptions, total=False):
    """Options of an export for all users of a model."""

    exclude_seen: Bool
    """Whether to leave out items that the user interacted with; default true."""


class RequestOptions(ItemOptions, total=False):
    """Options of lists that are returned in a response."""

    offset: Offset
    """How many of the best items to skip; default 0."""


class SessionOptions(RequestOptions, total=False):
    """Options of recommendations for a session without a user id."""

    exclude_seen: Bool
    """Whether to leave out items that the user interacted with; default true."""
    explain: Bool
    """Whether to list the interactions that each item is recommended for; default false."""
    fallback: Bool
    """Whether a cold-start user gets popular items, or none; default true."""
    popularity: Popularity
    """Which popular items a cold-start user gets: ``overall`` (the default) or ``recent``."""


class UserOptions(SessionOptions, total=False):
    """Options of recommendations for a user."""

    interactions: Interactions
    """Item ids, or objects with ``item_id`` and ``rating``: interactions in addition to those of the training."""


class RankOptions(TypedDict, total=False):
    """Options of ranking given items."""

    exclude_seen: Bool
    """Whether to leave out items that the user interacted with; default false."""
    interactions: Interactions
    """Item ids, or objects with ``item_id`` and ``rating``: interactions in addition to those of the training."""
    boost: Boosts
    """Conditions that raise or lower the scores of the items that meet them, such as ``genre=Comedy*1.5``."""
    diversity: Fraction
    """From 0 (relevance only, the default) to 1 (maximum diversity)."""
    explain: Bool
    """Whether to list the interactions that each item is recommended for; default false."""
    fallback: Bool
    """Whether a cold-start user gets popular items, or none; default true."""
    popularity: Popularity
    """Which popular items a cold-start user gets: ``overall`` (the default) or ``recent``."""
