"""What a request asks of a model, checked and in its proper types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from recserver.recommend.filters import Condition
from recserver.recommend.request_options import Boost, Interaction, MaxPer, Popularity

_FIELD_NAMES = {"filter": "filters", "boost": "boosts"}


@dataclass(frozen=True, slots=True)
class Query:
    """Which items, how many, and in which order.

    Queries are hashable and compare by all of their fields: what is grouped by query is grouped by everything that
    decides the answer. Lists become tuples for that.

    Attributes:
        n: how many at most.
        offset: so many of the best are passed over first.
        exclude_seen: whether items that the user interacted with are left out.
        exclude: ids of items that are left out.
        candidates: ids of the only items that may come; None for all.
        filters: what items must fulfil, all of it.
        boosts: by which scores of some items are raised or lowered.
        max_per: how many items of one kind there may be.
        diversity: from 0, by score alone, to 1, by unlikeness to the items before alone.
        interactions: what the user did beside what the training knows; of several with one item the last counts.
        explain: whether to tell which interactions each item comes from.
        fallback: what somebody gets of whom nothing is known; None for nothing.
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
        """What ``wishes`` say, under the names that requests have for it."""
        given = {_FIELD_NAMES.get(name, name): value for name, value in options.items()}
        fallback, popularity = given.pop("fallback", True), given.pop("popularity", "overall")
        return cls(fallback=popularity if fallback else None, **given)
