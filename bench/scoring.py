"""How long an exact top ten takes, in microseconds a user: one by one, and 64 users together."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bench.models import write_model
from bench.report import alternate, report
from bench.rows import rounds
from recserver.recommend.model.loading import load_model
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.pipeline import recommend, recommend_many
from recserver.recommend.prepared_query import PreparedQuery
from recserver.recommend.query import Query

USERS, TOGETHER = 2_000, 64

Call = Callable[[int], object]


async def main() -> None:
    with threadpool_limits(1):
        for items in (10_000, 100_000, 1_000_000):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "bench.pkl"
                write_model(path, users=USERS, items=items, k=64)
                found = await alternate(rounds(7), _measures(load_model(path)[1]))
            note = (
                "One thread. Users have 15 % of 64 components, as NMF leaves them, or all, as SVD does; and 50 "
                "items that are left out."
            )
            report(f"scoring {items}: top 10 of {items:,} items x 64", "us a user", found, note)


def _measures(model: Recommender) -> dict[str, Callable[[], object]]:
    calls = TOGETHER if len(model.items) > 100_000 else 4 * TOGETHER
    factors = np.random.default_rng(1).random(model.user_factors.shape, np.float32)
    dense = replace(model, user_factors=factors)
    measures = {
        "the factors read once": _timed(_read(model), calls),
        "product with all factors": _timed(_product(model), calls),
        "product and full sort": _timed(_full_sort(model), calls // 8),
        "recommend": _timed(_recommend(model), calls),
        "recommend, 64 together": _timed(_recommend_many(model), calls, TOGETHER),
        "recommend, all components": _timed(_recommend(dense), calls),
        "recommend, all, 64 together": _timed(_recommend_many(dense), calls, TOGETHER),
    }
    if find_spec("implicit"):
        measures["implicit topk, 64 together"] = _timed(_implicit(model), calls, TOGETHER)
    return measures


def _timed(call: Call, calls: int, users: int = 1) -> Callable[[], object]:
    async def measure() -> float:
        start = time.perf_counter()
        for number in range(0, calls, users):
            call(number % (USERS - TOGETHER))
        return (time.perf_counter() - start) / calls * 1e6

    return measure


def _read(model: Recommender) -> Call:
    return lambda number: model.item_factors.max()


def _product(model: Recommender) -> Call:
    return lambda number: model.user_factors[number] @ model.item_factors


def _full_sort(model: Recommender) -> Call:
    return lambda number: np.argsort(-(model.user_factors[number] @ model.item_factors))[:10]


def _recommend(model: Recommender) -> Call:
    return lambda number: recommend(model, f"u{number:08d}", Query())


def _recommend_many(model: Recommender) -> Call:
    asked = PreparedQuery.for_model(model, Query())
    return lambda first: recommend_many(model, [f"u{first + number:08d}" for number in range(TOGETHER)], asked)


def _implicit(model: Recommender) -> Call:
    from implicit.cpu.topk import topk
    from scipy.sparse import csr_matrix

    items = np.ascontiguousarray(model.item_factors.T)
    shape = len(model.users), len(model.items)
    ones = np.ones(len(model.seen_indices), np.float32)
    seen = csr_matrix((ones, model.seen_indices, model.seen_indptr), shape=shape)

    def call(first: int) -> object:
        some = slice(first, first + TOGETHER)
        return topk(items, model.user_factors[some], 10, filter_query_items=seen[some], num_threads=1)

    return call
