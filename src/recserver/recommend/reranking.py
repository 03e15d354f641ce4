"""From scores to places: the best, and the best that are unlike each other or few of a kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recserver.recommend.model.recommender import Recommender, Scores
from recserver.recommend.scoring import Indices
from recserver.recommend.similarity import PoolSimilarities

POOL_SIZE = 500
"""Items among which unlike ones are looked for; those that score less follow in the order of their scores."""

TopN = Callable[[int], tuple[Indices, Scores]]
"""Gives so many of the best items, or all that are left: their places and scores, best first."""


@dataclass(frozen=True, slots=True)
class Quota:
    """So many items at most of each value of an attribute. Items without a value are free.

    Attributes:
        indptr, codes: each item's values, compressed sparse rows.
    """

    indptr: NDArray[np.int64]
    codes: NDArray[np.int32]
    max_count: int


def rerank(
    model: Recommender, top_n: TopN, offset: int, n: int, *, diversity: float, quotas: Sequence[Quota]
) -> Indices:
    """The places of ``n`` items after the ``first`` ones of the order that is asked for.

    Args:
        diversity: weight of unlikeness to the items before, from 0 to 1.
    """
    end = min(offset + n, len(model.items))
    order = _diversified(model, top_n, diversity) if diversity else _in_score_order(top_n, 2 * end)
    found = list(_within_quotas(order, quotas, end))
    return np.array(found[offset:], np.intp)


def _in_score_order(top_n: TopN, count: int) -> Iterator[int]:
    """Best first; looked for twice as far each time that more are taken."""
    given = 0
    while True:
        count = max(1, count)
        places = top_n(count)[0].tolist()
        yield from places[given:]
        if len(places) < count:
            return
        given, count = len(places), 2 * count


def _diversified(model: Recommender, top_n: TopN, diversity: float) -> Iterator[int]:
    """By maximal marginal relevance (Carbonell and Goldstein 1998), the best first.

    Each time the item with the largest ``(1 - diversity) relevance - diversity likeness``: its score, from 0 to 1
    within the pool, and the largest likeness to any before it.
    """
    pool, scores = top_n(POOL_SIZE)
    if len(pool):
        own = scores.astype(np.float64)
        relevance = (own - own[-1]) / ((own[0] - own[-1]) or 1.0)
        likenesses, likest = PoolSimilarities(model, pool), np.full(len(pool), -1.0)
        left = np.zeros(len(pool))
        number = 0
        for _ in range(len(pool)):
            yield int(pool[number])
            left[number] = -np.inf
            likest = np.maximum(likest, likenesses.similarities_to(number))
            number = int(np.argmax(left + (1 - diversity) * relevance - diversity * likest))
    taken = set(pool.tolist())
    yield from (place for place in _in_score_order(top_n, 2 * POOL_SIZE) if place not in taken)


def _within_quotas(order: Iterator[int], quotas: Sequence[Quota], count: int) -> Iterator[int]:
    """The first ``count`` places that the quotas leave."""
    taken: list[Counter[int]] = [Counter() for _ in quotas]
    for place in order if count else ():
        values = [quota.codes[quota.indptr[place] : quota.indptr[place + 1]].tolist() for quota in quotas]
        full = (
            counter[value] >= quota.max_count
            for quota, counter, own in zip(quotas, taken, values, strict=True)
            for value in own
        )
        if any(full):
            continue
        for counter, own in zip(taken, values, strict=True):
            counter.update(own)
        yield place
        count -= 1
        if not count:
            return
