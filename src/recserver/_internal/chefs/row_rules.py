"""Keys of a data chef's entry that apply to its rows: names of columns, and weights of rows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from recserver._internal.chefs.rename_columns import MAX_NAME_LENGTH, RenameColumns, parse_renames
from recserver._internal.core.errors import quoted
from recserver._internal.core.validation.values import real_number, unicode_text, within

MAX_EVENTS = 1000
MAX_WEIGHT = 1e6
MAX_HALF_LIFE_DAYS = 36_600.0
"""Days: a hundred years."""


class RepeatedPairs(StrEnum):
    """The rating of a user-item pair that occurs in several rows."""

    SUM = "sum"
    """The sum of their ratings."""
    LAST = "last"
    """The rating of the newest row: by time if ``timestamp_column`` is set, else the last in the source."""
    MAX = "max"
    """The largest rating."""
    FIRST = "first"
    """The rating of the oldest row: by time if ``timestamp_column`` is set, else the first in the source."""


_weight = within(real_number, 0, MAX_WEIGHT, "must be a number from 0 to 1000000")


def _weights(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError('must be an object of events and their weights, such as {"view": 1, "order": 5}')
    if len(value) > MAX_EVENTS:
        raise ValueError(f"must name at most {MAX_EVENTS} events")
    weights = {}
    for name, weight in value.items():
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not str(name).strip():
            raise ValueError(f"{quoted(name)} is not a valid event: names must be text")
        try:
            weights[unicode_text(str(name).strip())] = _weight(weight)
        except ValueError as error:
            raise ValueError(f"the weight of {quoted(name)} {error}") from None
    return weights


def _half_life(value: object) -> float:
    number = real_number(value)
    if not 0 < number <= MAX_HALF_LIFE_DAYS:
        raise ValueError(f"must be days, more than 0 and at most {MAX_HALF_LIFE_DAYS:g}")
    return number


ColumnName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_NAME_LENGTH)]
Weight = Annotated[
    float, BeforeValidator(_weight, json_schema_input_type=Annotated[float, Field(ge=0, le=MAX_WEIGHT)])
]
EventWeights = Annotated[dict[str, float], BeforeValidator(_weights)]
HalfLife = Annotated[
    float,
    BeforeValidator(_half_life, json_schema_input_type=Annotated[float, Field(gt=0, le=MAX_HALF_LIFE_DAYS)]),
]


class RowRules(BaseModel):
    """The keys that entries of any type may have. Names of columns are those after renaming."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow")

    rename_columns: RenameColumns = ""
    constant_rating: Weight | None = None
    """The rating of every row; ratings in the source are ignored."""
    event_column: ColumnName | None = None
    """The column with the type of event; ``event`` by default. Read only with ``event_weights``."""
    event_weights: EventWeights | None = None
    """Event → its weight, used as rating. Rows with other events, or of weight 0, are rejected."""
    timestamp_column: ColumnName | None = None
    """The column with the time of the event; ``timestamp`` if only ``half_life_days`` is set."""
    half_life_days: HalfLife | None = None
    """Half-life of weights in days: a row's age is measured from the newest row of the source."""
    repeated_pairs: RepeatedPairs | None = None
    """See :attr:`used_repeated_pairs` for the default."""

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.constant_rating is not None and self.event_weights is not None:
            raise ValueError("constant_rating and event_weights exclude each other: give one")
        if self.event_column is not None and self.event_weights is None:
            raise ValueError('event_column needs event_weights, such as {"view": 1, "order": 5}')
        return self

    @property
    def renames(self) -> dict[str, str]:
        """Old name → new name."""
        return parse_renames(self.rename_columns)

    @property
    def used_event_column(self) -> str | None:
        """The column that is read for events, after renaming."""
        return (self.event_column or "event") if self.event_weights is not None else None

    @property
    def used_timestamp_column(self) -> str | None:
        """The column that is read for times, after renaming."""
        return self.timestamp_column or ("timestamp" if self.half_life_days is not None else None)

    @property
    def used_repeated_pairs(self) -> RepeatedPairs:
        """As set; by default the largest for weighted events, so that a view after an order does not reduce the
        rating, else the last, which is the user's most recent one."""
        if self.repeated_pairs is not None:
            return self.repeated_pairs
        return RepeatedPairs.MAX if self.event_weights is not None else RepeatedPairs.LAST

    @property
    def is_weighted(self) -> bool:
        """Whether ratings are confidence weights rather than explicit ratings."""
        weighted = self.event_weights is not None or self.half_life_days is not None
        return weighted or self.repeated_pairs is RepeatedPairs.SUM

    def required_columns(self) -> dict[str, bool]:
        """Name after renaming → whether a training fails without it."""
        columns = {"user_id": True, "item_id": True}
        if self.used_event_column is not None:
            columns[self.used_event_column] = True
        elif self.constant_rating is None:
            columns["rating"] = False
        if self.used_timestamp_column is not None:
            columns[self.used_timestamp_column] = True
        return columns


def row_rules(entry: Mapping[str, Any]) -> RowRules:
    """The row rules of ``entry``; null counts as absent.

    Raises:
        pydantic.ValidationError: if a key is invalid.
    """
    return RowRules.model_validate({key: value for key, value in entry.items() if value is not None})
