"""Time per user for an exact top ten, in microseconds: one user at a time, and in batches of 64 users."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bench.models import write_random_model
from bench.report import measure_round_robin, report
from bench.settings import rounds
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend, recommend_many
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query

USERS, BATCH = 2_000, 64

Call = Callable[[int], object]


async def main() -> None:
    with threadpool_limits(1):
        for items in (10_000, 100_000, 1_000_000):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "bench.pkl"
                write_random_model(path, users=USERS, items=items, k=64)
                values = await measure_round_robin(rounds(7), _measures(load_model(path)[1]))
            note = (
                "One thread. User factors are 15 % non-zero, as those of NMF, or dense, as those of SVD. "
                "50 seen items of each user are excluded."
            )
            report(f"scoring {items}: exact top 10 of {items:,} items x 64", "us per user", values, note)


def _measures(model: Recommender) -> dict[str, Callable[[], object]]:
    calls = BATCH if len(model.items) > 100_000 else 4 * BATCH
    factors = np.random.default_rng(1).random(model.user_factors.shape, np.float32)
    dense = replace(model, user_factors=factors)
    measures = {
        "one pass over the item factors": _timed(_max(model), calls),
        "product with the item factors": _timed(_product(model), calls),
        "product and full sort": _timed(_full_sort(model), calls // 8),
        "recommend": _timed(_recommend(model), calls),
        "recommend, batches of 64": _timed(_recommend_many(model), calls, BATCH),
        "recommend, dense factors": _timed(_recommend(dense), calls),
        "recommend, dense, batches of 64": _timed(_recommend_many(dense), calls, BATCH),
    }
    if find_spec("implicit"):
        measures["implicit topk, batches of 64"] = _timed(_implicit(model), calls, BATCH)
    return measures


def _timed(call: Call, calls: int, users: int = 1) -> Callable[[], object]:
    async def measure() -> float:
        start = time.perf_counter()
        for number in range(0, calls, users):
            call(number % (USERS - BATCH))
        return (time.perf_counter() - start) / calls * 1e6

    return measure


def _max(model: Recommender) -> Call:
    return lambda number: model.item_factors.max()


def _product(model: Recommender) -> Call:
    return lambda number: model.user_factors[number] @ model.item_factors


def _full_sort(model: Recommender) -> Call:
    return lambda number: np.argsort(-(model.user_factors[number] @ model.item_factors))[:10]


def _recommend(model: Recommender) -> Call:
    return lambda number: recommend(model, f"u{number:08d}", Query())


def _recommend_many(model: Recommender) -> Call:
    query = PreparedQuery.for_model(model, Query())
    return lambda first: recommend_many(model, [f"u{first + number:08d}" for number in range(BATCH)], query)


def _implicit(model: Recommender) -> Call:
    from implicit.cpu.topk import topk
    from scipy.sparse import csr_matrix

    items = np.ascontiguousarray(model.item_factors.T)
    shape = len(model.users), len(model.items)
    ones = np.ones(len(model.seen_indices), np.float32)
    seen = csr_matrix((ones, model.seen_indices, model.seen_indptr), shape=shape)

    def call(first: int) -> object:
        batch = slice(first, first + BATCH)
        return topk(items, model.user_factors[batch], 10, filter_query_items=seen[batch], num_threads=1)

    return call
