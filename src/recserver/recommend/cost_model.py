"""How long an answer takes, about: what may be found on the event loop, and what has to be found beside it."""

from __future__ import annotations

from recserver.recommend.model.recommender import Recommender
from recserver.recommend.query import Query
from recserver.recommend.reranking import POOL_SIZE

MAX_INLINE_MS = 1.0
"""Milliseconds that the event loop may wait for one answer, or for several that it finds together."""

MS_PER_FACTOR, MS_PER_ITEM = 1e-7, 2e-6
"""Milliseconds, measured on one slow core: to weigh a factor of an item; to look at a score of it."""

MS_PER_FACTOR_BATCHED, MS_PER_ITEM_BATCHED = 3e-8, 1e-6
"""The same, of each user, where many are answered together."""

MS_PER_ID, MS_PER_RERANKED, MS_PER_SHARE = 5e-3, 1e-2, 1e-5
"""To look an id up; to hold an item against quotas, or against those before; one share of an explanation."""

MS_PER_SOLVE = 4e-8
"""To solve for somebody's factors, of their number to the third power; as much where interactions weigh in."""

MS_PER_WEIGHT, MS_PER_RESULT, FREE_RESULTS = 1e-5, 1e-3, 100
"""To add what one neighbour says; to name one item, beyond so many."""


def scoring_ms(model: Recommender) -> float:
    """Milliseconds to score all items for a user and take the best."""
    return 0.03 + model.item_factors.size * MS_PER_FACTOR + len(model.items) * MS_PER_ITEM + _neighbors_ms(model)


def batched_scoring_ms(model: Recommender) -> float:
    """Milliseconds of each user where many are answered together."""
    size, items = model.item_factors.size, len(model.items)
    return 0.015 + size * MS_PER_FACTOR_BATCHED + items * MS_PER_ITEM_BATCHED + _neighbors_ms(model)


def _neighbors_ms(model: Recommender) -> float:
    """To add what the neighbours of a user's items say, on average."""
    if model.neighbors is None:
        return 0.0
    each = len(model.neighbors.indices) / max(1, len(model.items))
    return _mean_history(model) * each * MS_PER_WEIGHT


def _mean_history(model: Recommender) -> float:
    return len(model.seen_indices) / max(1, len(model.users))


def _fold_in_ms(model: Recommender, history: float) -> float:
    """To fold in somebody with so many interactions."""
    k = len(model.item_factors)
    if model.fold_in is None:
        return 0.0
    return k * k * (k + (history if model.fold_in.alpha else 0.0)) * MS_PER_SOLVE


def query_ms(model: Recommender, query: Query) -> float:
    """Milliseconds that a query takes beyond that; 0 for a plain one."""
    n_ids = len(query.exclude) + len(query.candidates or ()) + len(query.interactions)
    conditions = [*query.filters, *(boost.condition for boost in query.boosts)]
    looks = sum(1 + len(one.values) for one in conditions)
    picks = min(query.offset + query.n, len(model.items))
    walks = picks * (1 + len(query.max_per)) if query.max_per else 0
    walks += min(picks, POOL_SIZE) * 4 if query.diversity else 0
    history = _mean_history(model) + len(query.interactions)
    explained = 1.0 + history * query.n * MS_PER_SHARE if query.explain else 0.0
    passed_over = query.offset * MS_PER_ITEM * 10
    folded = 0.3 + _fold_in_ms(model, history) if query.interactions else 0.0
    told = max(0, picks - FREE_RESULTS) * MS_PER_RESULT
    looked = looks * len(model.items) * MS_PER_ITEM
    return n_ids * MS_PER_ID + looked + walks * MS_PER_RERANKED + explained + passed_over + folded + told
