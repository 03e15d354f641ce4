"""Reranking: diversity, and limits on the number of items with the same attribute value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recserver._internal.recommend.model.recommender import Recommender, Scores
from recserver._internal.recommend.scoring import Indices
from recserver._internal.recommend.similarity import PoolSimilarities

POOL_SIZE = 500
"""Items that diversity reorders; items with lower scores follow in the order of their scores."""

TopN = Callable[[int], tuple[Indices, Scores]]
"""Returns the indices and scores of the best items, best first: the requested number, or all there are."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The maximum number of items with the same value of an attribute. Items without a value are not limited.

    Attributes:
        indptr, codes: each item's values, compressed sparse rows.
    """

    indptr: NDArray[np.int64]
    codes: NDArray[np.int32]
    max_count: int


def rerank(
    model: Recommender, top_n: TopN, offset: int, n: int, *, diversity: float, quotas: Sequence[Quota]
) -> Indices:
    """The indices of ``n`` items after the first ``offset`` of the reranked order.

    Args:
        diversity: from 0 (relevance only) to 1 (maximum diversity).
    """
    end = min(offset + n, len(model.items))
    order = _diversified(model, top_n, diversity) if diversity else _in_score_order(top_n, 2 * end)
    indices = list(_within_quotas(order, quotas, end))
    return np.array(indices[offset:], np.intp)


def _in_score_order(top_n: TopN, count: int) -> Iterator[int]:
    """Best first, selecting twice as many each time that more are taken."""
    yielded = 0
    while True:
        count = max(1, count)
        indices = top_n(count)[0].tolist()
        yield from indices[yielded:]
        if len(indices) < count:
            return
        yielded, count = len(indices), 2 * count


def _diversified(model: Recommender, top_n: TopN, diversity: float) -> Iterator[int]:
    """By maximal marginal relevance (Carbonell and Goldstein 1998), best first.

    Each step takes the item with the largest ``(1 - diversity) * relevance - diversity * similarity``, where
    relevance is its score scaled to 0 to 1 within the pool, and similarity the largest to any item before it.
    """
    pool, scores = top_n(POOL_SIZE)
    if len(pool):
        exact = scores.astype(np.float64)
        relevance = (exact - exact[-1]) / ((exact[0] - exact[-1]) or 1.0)
        similarities, max_similarity = PoolSimilarities(model, pool), np.full(len(pool), -1.0)
        penalty = np.zeros(len(pool))  # -inf for items already taken
        position = 0
        for _ in range(len(pool)):
            yield int(pool[position])
            penalty[position] = -np.inf
            max_similarity = np.maximum(max_similarity, similarities.similarities_to(position))
            position = int(np.argmax(penalty + (1 - diversity) * relevance - diversity * max_similarity))
    taken = set(pool.tolist())
    yield from (index for index in _in_score_order(top_n, 2 * POOL_SIZE) if index not in taken)


def _within_quotas(order: Iterator[int], quotas: Sequence[Quota], count: int) -> Iterator[int]:
    """The first ``count`` items of the order that the quotas allow."""
    taken: list[Counter[int]] = [Counter() for _ in quotas]
    for index in order if count else ():
        values = [quota.codes[quota.indptr[index] : quota.indptr[index + 1]].tolist() for quota in quotas]
        full = (
            counter[value] >= quota.max_count
            for quota, counter, item_values in zip(quotas, taken, values, strict=True)
            for value in item_values
        )
        if any(full):
            continue
        for counter, item_values in zip(taken, values, strict=True):
            counter.update(item_values)
        yield index
        count -= 1
        if not count:
            return
