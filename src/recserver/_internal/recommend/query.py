"""A query: the validated options of a request (``request_options.py``) as one hashable value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from recserver._internal.recommend.filters import Condition
from recserver._internal.recommend.request_options import Boost, Interaction, MaxPer, Popularity

_FIELD_NAMES = {"filter": "filters", "boost": "boosts"}


@dataclass(frozen=True, slots=True)
class Query:
    """Which items to return, how many, and in which order.

    Queries are hashable and compare by all fields, so requests that are grouped by query share everything that
    determines the answer. Lists become tuples for that.

    Attributes:
        n: maximum number of items.
        offset: how many of the best items to skip.
        exclude_seen: whether to leave out items that the user interacted with.
        exclude: ids of items to leave out.
        candidates: ids of the only items to consider; None for all.
        filters: conditions that items must all meet.
        boosts: conditions that raise or lower the scores of the items that meet them.
        max_per: limits on the number of items with the same attribute value.
        diversity: from 0 (relevance only) to 1 (maximum diversity).
        interactions: of the user, in addition to those of the training; of several with one item the last counts.
        explain: whether to list the interactions that each item is recommended for.
        fallback: which popular items a cold-start user gets; None for no items.
    """

    n: int = 10
    offset: int = 0
    exclude_seen: bool = True
    exclude: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    filters: Sequence[Condition] = ()
    boosts: Sequence[Boost] = ()
    max_per: Sequence[MaxPer] = ()
    diversity: float = 0.0
    interactions: Sequence[Interaction] = ()
    explain: bool = False
    fallback: Popularity | None = "overall"

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """The query of validated request options, which have the names of the HTTP API."""
        values = {_FIELD_NAMES.get(name, name): value for name, value in options.items()}
        fallback, popularity = values.pop("fallback", True), values.pop("popularity", "overall")
        return cls(fallback=popularity if fallback else None, **values)
