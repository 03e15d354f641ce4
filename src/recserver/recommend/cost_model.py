"""How long an answer takes, about: what may be found on the event loop, and what has to be found beside it."""

from __future__ import annotations

from recserver.recommend.model.recommender import Recommender
from recserver.recommend.query import Query
from recserver.recommend.reranking import POOL

QUICK = 1.0
"""Milliseconds that the event loop may wait for one answer, or for several that it finds together."""

PER_FACTOR, PER_ITEM = 1e-7, 2e-6
"""Milliseconds, measured on one slow core: to weigh a factor of an item; to look at a score of it."""

PER_FACTOR_TOGETHER, PER_ITEM_TOGETHER = 3e-8, 1e-6
"""The same, of each user, where many are answered together."""

PER_ID, PER_PICK, PER_SHARE = 5e-3, 1e-2, 1e-5
"""To look an id up; to hold an item against quotas, or against those before; one share of an explanation."""

PER_SOLVED = 4e-8
"""To solve for somebody's factors, of their number to the third power; as much where interactions weigh in."""

PER_WEIGHT, PER_TOLD, FEW = 1e-5, 1e-3, 100
"""To add what one neighbour says; to name one item, beyond so many."""


def scoring(model: Recommender) -> float:
    """Milliseconds to score all items for a user and take the best."""
    return 0.03 + model.item_factors.size * PER_FACTOR + len(model.items) * PER_ITEM + _hearing(model)


def scoring_each(model: Recommender) -> float:
    """Milliseconds of each user where many are answered together."""
    size, items = model.item_factors.size, len(model.items)
    return 0.015 + size * PER_FACTOR_TOGETHER + items * PER_ITEM_TOGETHER + _hearing(model)


def _hearing(model: Recommender) -> float:
    """To add what the neighbours of a user's items say, on average."""
    if model.neighbors is None:
        return 0.0
    each = len(model.neighbors.indices) / max(1, len(model.items))
    return _history(model) * each * PER_WEIGHT


def _history(model: Recommender) -> float:
    return len(model.seen_indices) / max(1, len(model.users))


def _solving(model: Recommender, history: float) -> float:
    """To fold in somebody with so many interactions."""
    k = len(model.item_factors)
    if model.fold_in is None:
        return 0.0
    return k * k * (k + (history if model.fold_in.confidence else 0.0)) * PER_SOLVED


def asking(model: Recommender, query: Query) -> float:
    """Milliseconds that a query takes beyond that; 0 for a plain one."""
    n_ids = len(query.exclude) + len(query.candidates or ()) + len(query.interactions)
    conditions = [*query.filters, *(boost.condition for boost in query.boosts)]
    looks = sum(1 + len(one.values) for one in conditions)
    picks = min(query.offset + query.n, len(model.items))
    walks = picks * (1 + len(query.max_per)) if query.max_per else 0
    walks += min(picks, POOL) * 4 if query.diversity else 0
    history = _history(model) + len(query.interactions)
    explained = 1.0 + history * query.n * PER_SHARE if query.explain else 0.0
    passed_over = query.offset * PER_ITEM * 10
    folded = 0.3 + _solving(model, history) if query.interactions else 0.0
    told = max(0, picks - FEW) * PER_TOLD
    looked = looks * len(model.items) * PER_ITEM
    return n_ids * PER_ID + looked + walks * PER_PICK + explained + passed_over + folded + told
