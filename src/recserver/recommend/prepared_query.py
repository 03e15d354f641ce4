"""What a query leaves of a model's items, and what it changes about their scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from recserver.core.errors import InvalidInput
from recserver.recommend.filters import Condition
from recserver.recommend.model.item_attributes import require_attributes
from recserver.recommend.model.recommender import Recommender, Scores
from recserver.recommend.query import Query
from recserver.recommend.request_options import MaxPer, Popularity
from recserver.recommend.reranking import Quota
from recserver.recommend.user_profile import FLOAT32_MAX

Mask = NDArray[np.bool_]
T = TypeVar("T")
R = TypeVar("R")


MAX_RERANKED = 10_000
"""Items that are gone through one by one at most."""

NEEDS_TIMES = "needs times, and this model has none: name the column that holds them in its data chef, and train"


_BATCH_OPTIONS = frozenset({"n", "offset", "exclude_seen", "exclude", "candidates", "filters", "fallback"})
"""Fields of a query that batch scoring supports; a query with any other is answered by itself."""

_SINGLE_DEFAULTS = [(one.name, one.default) for one in fields(Query) if one.name not in _BATCH_OPTIONS]


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A query in the terms of one version of a model, for as many users as one likes.

    Attributes:
        sent: ratings that the request tells of, by the places of items.
        left: the items that may come, shape (items,); None for all.
        boosts: for each boost the items that it is for, shape (items,), and its factor less 1.
        quotas: how many items of a kind there may be.
        popularity: scores for people of whom nothing is known, shape (items,); None if they get nothing.
    """

    query: Query
    extra_ratings: dict[int, float]
    allowed: Mask | None
    boosts: list[tuple[Mask, np.float32]]
    quotas: list[Quota]
    popularity: Scores | None

    @classmethod
    def for_model(cls, model: Recommender, query: Query) -> Self:
        """
        Raises:
            InvalidInput: if the query asks for what the model does not know.
        """
        _check_depth(model, query)
        told = ((model.items.find(one.item_id), one.rating) for one in query.interactions)
        mask = _condition_mask(model)

        def quota(asked: MaxPer) -> Quota:
            return Quota(*require_attributes(model.attributes).values_of(asked.attribute), asked.count)

        return cls(
            query=query,
            extra_ratings={place: rating for place, rating in told if place is not None},
            allowed=_allowed_items(model, query, mask),
            boosts=[
                (_as_field_error("boost", mask, one.condition), np.float32(one.factor - 1)) for one in query.boosts
            ],
            quotas=[_as_field_error("max_per", quota, one) for one in query.max_per],
            popularity=_popularity(model, query.fallback),
        )

    @property
    def is_batchable(self) -> bool:
        """Whether every option that differs from its default is one that batch scoring supports."""
        return all(getattr(self.query, name) == default for name, default in _SINGLE_DEFAULTS)

    def apply_boosts(self, scores: Scores, indices: NDArray[np.intp] | None = None) -> Scores:
        """The scores after all boosts. A factor above 1 raises a score whatever its sign, one below lowers it;
        finite ones stay finite, and what is left out stays so.

        Args:
            places: of the items that the scores are of; None for all.
        """
        for mask, more in self.boosts:
            own = mask if indices is None else mask[indices]
            with np.errstate(over="ignore", invalid="ignore"):
                raised = scores + more * np.abs(scores)
            scores = np.where(own & (scores > -np.inf), np.clip(raised, -FLOAT32_MAX, FLOAT32_MAX), scores)
        return scores

    def boosted_error(self, error: float) -> float:
        """How far apart boosts may take scores that are ``error`` apart.

        Each boost rounds both, by no more than scores that were added up may be apart and each time anew.
        """
        return error * (1 + len(self.boosts)) * math.prod(1 + abs(float(more)) for _, more in self.boosts)


def _check_depth(model: Recommender, query: Query) -> None:
    """Where each item depends on those before, they are gone through one by one, which must end."""
    end = min(query.offset + query.n, len(model.items))
    if (query.diversity or query.max_per) and query.offset < len(model.items) and end > MAX_RERANKED:
        problem = f"must not reach beyond item {MAX_RERANKED}, n included, where diversity or max_per is given"
        raise InvalidInput.of("offset", problem)


def _allowed_items(model: Recommender, query: Query, mask: Callable[[Condition], Mask]) -> Mask | None:
    if not query.filters and not query.exclude and query.candidates is None:
        return None
    left = np.full(len(model.items), query.candidates is None)
    if query.candidates is not None:
        left[model.indices_of(query.candidates)] = True
    left[model.indices_of(query.exclude)] = False
    for condition in query.filters:
        left &= _as_field_error("filter", mask, condition)
    return left


def _popularity(model: Recommender, popularity: Popularity | None) -> Scores | None:
    if popularity != "recent":
        return model.popularity if popularity else None
    if model.recent_popularity is None:  # told to whoever asks: what is refused does not depend on the user
        raise InvalidInput.of("popularity", NEEDS_TIMES)
    return model.recent_popularity


def _condition_mask(model: Recommender) -> Callable[[Condition], Mask]:
    return lambda condition: require_attributes(model.attributes).mask(condition)


def _as_field_error(field: str, read: Callable[[T], R], value: T) -> R:
    try:
        return read(value)
    except ValueError as error:
        raise InvalidInput.of(field, error) from None
