"""A query resolved against one version of a model: allowed items, boosts, quotas and fallback scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from recserver._internal.core.errors import InvalidInput
from recserver._internal.recommend.model.item_attributes import Attributes, require_attributes
from recserver._internal.recommend.model.recommender import Recommender, Scores
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import Boost, MaxPer, Popularity
from recserver._internal.recommend.reranking import Quota
from recserver._internal.recommend.user_profile import FLOAT32_MAX

Mask = NDArray[np.bool_]
T = TypeVar("T")
R = TypeVar("R")

MAX_RERANKED = 10_000
"""Items that reranking goes through one by one at most."""

NEEDS_TIMES = "needs times, and this model has none: name the column that holds them in its data chef, and train"

_BATCH_OPTIONS = frozenset({"n", "offset", "exclude_seen", "exclude", "candidates", "filters", "fallback"})
"""Fields of a query that batch scoring supports; a query with any other is answered by itself."""

_SINGLE_DEFAULTS = [(field.name, field.default) for field in fields(Query) if field.name not in _BATCH_OPTIONS]


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A query in the terms of one version of a model, usable for any number of users.

    Attributes:
        extra_ratings: ratings of the request's interactions, by item index.
        allowed: the items that may be returned, shape (items,); None for all.
        boosts: of each boost the items that it applies to, shape (items,), and its factor less 1.
        quotas: limits on the number of items with the same attribute value.
        popularity: scores for cold-start users, shape (items,); None if they get no items.
    """

    query: Query
    extra_ratings: dict[int, float]
    allowed: Mask | None
    boosts: list[tuple[Mask, np.float32]]
    quotas: list[Quota]
    popularity: Scores | None

    @classmethod
    def for_model(cls, model: Recommender, query: Query) -> Self:
        """Resolve a query.

        Raises:
            InvalidInput: if it names attributes that the model does not have, needs times that the model does not
                have, or reranks too many items.
        """
        _check_depth(model, query)
        ratings = ((model.items.find(each.item_id), each.rating) for each in query.interactions)

        def boost(option: Boost) -> tuple[Mask, np.float32]:
            return _attributes(model).mask(option.filter), np.float32(option.factor - 1)

        def quota(option: MaxPer) -> Quota:
            return Quota(*_attributes(model).values_of(option.attribute), option.count)

        return cls(
            query=query,
            extra_ratings={index: rating for index, rating in ratings if index is not None},
            allowed=_allowed_items(model, query),
            boosts=_each("boost", boost, query.boosts),
            quotas=_each("max_per", quota, query.max_per),
            popularity=_popularity(model, query.fallback),
        )

    @property
    def is_batchable(self) -> bool:
        """Whether every option that differs from its default is one that batch scoring supports."""
        return all(getattr(self.query, name) == default for name, default in _SINGLE_DEFAULTS)

    def apply_boosts(self, scores: Scores, indices: NDArray[np.intp] | None = None) -> Scores:
        """The scores after all boosts: ``score + (factor - 1) * |score|``, one boost after the other.

        A factor above 1 raises a score whatever its sign. Finite scores stay finite, and ``-inf`` stays ``-inf``.

        Args:
            indices: of the items that ``scores`` are of; None for all.
        """
        for mask, change in self.boosts:
            boosted = mask if indices is None else mask[indices]
            with np.errstate(over="ignore", invalid="ignore"):
                changed = scores + change * np.abs(scores)
            scores = np.where(boosted & (scores > -np.inf), np.clip(changed, -FLOAT32_MAX, FLOAT32_MAX), scores)
        return scores

    def boosted_error(self, error: float) -> float:
        """The largest difference after boosts of scores that differ by at most ``error`` before.

        Each boost rounds both scores again, by no more than ``error``.
        """
        return error * (1 + len(self.boosts)) * math.prod(1 + abs(float(change)) for _, change in self.boosts)


def _attributes(model: Recommender) -> Attributes:
    return require_attributes(model.attributes)


def _check_depth(model: Recommender, query: Query) -> None:
    """Refuse to rerank too far: reranking goes through the items one by one."""
    end = min(query.offset + query.n, len(model.items))
    if (query.diversity or query.max_per) and query.offset < len(model.items) and end > MAX_RERANKED:
        problem = f"must not reach beyond item {MAX_RERANKED}, n included, where diversity or max_per is given"
        raise InvalidInput.of("offset", problem)


def _allowed_items(model: Recommender, query: Query) -> Mask | None:
    if not query.filters and not query.exclude and query.candidates is None:
        return None
    allowed = np.full(len(model.items), query.candidates is None)
    if query.candidates is not None:
        allowed[model.indices_of(query.candidates)] = True
    allowed[model.indices_of(query.exclude)] = False
    for mask in _each("filter", lambda condition: _attributes(model).mask(condition), query.filters):
        allowed &= mask
    return allowed


def _popularity(model: Recommender, popularity: Popularity | None) -> Scores | None:
    if popularity != "recent":
        return model.popularity if popularity else None
    if model.recent_popularity is None:  # refused for known users too: an error must not depend on the user
        raise InvalidInput.of("popularity", NEEDS_TIMES)
    return model.recent_popularity


def _each(field: str, resolve: Callable[[T], R], options: Sequence[T]) -> list[R]:
    """Every option, resolved; a ValueError becomes an error of the request's field."""
    try:
        return [resolve(option) for option in options]
    except ValueError as error:
        raise InvalidInput.of(field, error) from None
