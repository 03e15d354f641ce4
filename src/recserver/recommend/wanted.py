"""What a query leaves of a model's items, and what it changes about their scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recserver.attributes import required
from recserver.errors import FieldError, InvalidInput
from recserver.recommend.person import LARGEST
from recserver.recommend.picking import Quota
from recserver.recommend.query import Query
from recserver.recommend.recommender import Recommender, Scores
from recserver.specs.conditions import Condition
from recserver.specs.wishes import MaxPer

Mask = NDArray[np.bool_]
T = TypeVar("T")
R = TypeVar("R")


def allowed(model: Recommender, query: Query) -> Mask | None:
    """The items that may come, shape (items,); None for all.

    Raises:
        InvalidInput: for a filter on what is not known of items.
    """
    if not query.filters and not query.exclude and query.candidates is None:
        return None
    if query.candidates is None:
        left = np.ones(len(model.items), np.bool_)
    else:
        left = np.zeros(len(model.items), np.bool_)
        left[model.places(query.candidates)] = True
    left[model.places(query.exclude)] = False
    mask = _mask(model)
    for condition in query.filters:
        left &= _asked("filter", mask, condition)
    return left


def boosted(model: Recommender, query: Query, scores: Scores) -> Scores:
    """The scores after all boosts. A factor above 1 raises a score whatever its sign, one below lowers it;
    finite ones stay finite, and what is left out stays so.

    Raises:
        InvalidInput: for a boost by what is not known of items.
    """
    mask = _mask(model)
    for boost in query.boosts:
        chosen = _asked("boost", mask, boost.condition) & (scores > -np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            raised = scores + np.float32(boost.factor - 1) * np.abs(scores)
        scores = np.where(chosen, np.clip(raised, -LARGEST, LARGEST), scores)
    return scores


def quotas(model: Recommender, query: Query) -> list[Quota]:
    """How many items of a kind there may be.

    Raises:
        InvalidInput: for an attribute that is not known.
    """

    def quota(asked: MaxPer) -> Quota:
        return Quota(*required(model.attributes).values_of(asked.attribute), asked.count)

    return [_asked("max_per", quota, one) for one in query.max_per]


def _mask(model: Recommender) -> Callable[[Condition], Mask]:
    return lambda condition: required(model.attributes).mask(condition)


def _asked(field: str, look: Callable[[T], R], one: T) -> R:
    try:
        return look(one)
    except ValueError as error:
        raise InvalidInput(f"{field}: {error}.", [FieldError((field,), str(error))]) from None
