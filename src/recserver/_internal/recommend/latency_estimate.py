"""Estimates of how long an answer takes: whether the event loop can compute it, or a thread has to."""

from __future__ import annotations

from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.query import Query

MAX_INLINE_MS = 1.0
"""Milliseconds of computation that may block the event loop at a time."""

MS_PER_FACTOR, MS_PER_SCORE, MS_PER_WEIGHT = 1e-7, 2e-6, 1e-5
"""Milliseconds on one slow core to multiply one factor, pass over one score, and add one neighbor's weight."""

MS_PER_ID, MS_PER_RESULT, FREE_RESULTS = 5e-3, 1e-3, 100
"""Milliseconds to look up one id, and to return one item beyond the first ``FREE_RESULTS``."""


def scoring_ms(model: Recommender) -> float:
    """Milliseconds to score all items for one user and select the best."""
    factors, items = model.item_factors.size, len(model.items)
    return 0.03 + factors * MS_PER_FACTOR + items * MS_PER_SCORE + _neighbors_ms(model)


def batched_scoring_ms(model: Recommender) -> float:
    """Milliseconds for each user of a batch."""
    factors, items = model.item_factors.size, len(model.items)
    return 0.015 + 0.3 * factors * MS_PER_FACTOR + 0.5 * items * MS_PER_SCORE + _neighbors_ms(model)


def query_ms(model: Recommender, query: Query) -> float:
    """Milliseconds that the options of a query add; 0 for a plain query."""
    if query.explain or query.diversity or query.max_per:
        return MAX_INLINE_MS
    n_ids = len(query.exclude) + len(query.candidates or ()) + len(query.interactions)
    conditions = [*query.filters, *(boost.filter for boost in query.boosts)]
    passes = sum(1 + len(condition.values) for condition in conditions)
    results = max(0, min(query.offset + query.n, len(model.items)) - FREE_RESULTS)
    fold_in = 0.3 + _fold_in_ms(model, query) if query.interactions else 0.0
    return n_ids * MS_PER_ID + passes * len(model.items) * MS_PER_SCORE + results * MS_PER_RESULT + fold_in


def _neighbors_ms(model: Recommender) -> float:
    if model.neighbors is None:
        return 0.0
    row_length = len(model.neighbors.indices) / max(1, len(model.items))
    return _mean_history(model) * row_length * MS_PER_WEIGHT


def _fold_in_ms(model: Recommender, query: Query) -> float:
    """Cubic in the number of factors; ALS also builds the system from the user's interactions."""
    if model.fold_in is None:
        return 0.0
    k, history = len(model.item_factors), _mean_history(model) + len(query.interactions)
    return k * k * (k + (history if model.fold_in.alpha else 0.0)) * MS_PER_FACTOR / 2


def _mean_history(model: Recommender) -> float:
    return len(model.seen_indices) / max(1, len(model.users))
