"""How long an exact top ten takes, in microseconds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.models import write_model
from bench.report import alternate, report
from recserver.catalog import open_packed
from recserver.recommend.answering import recommend
from recserver.recommend.query import Query
from recserver.recommend.recommender import Recommender

CALLS = 200


async def main() -> None:
    for items in (10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.pkl"
            write_model(path, users=2_000, items=items, k=64)
            _, model = open_packed(path)
            found = await alternate(7, {"one pass over the factors": _timed(_one_pass(model)),
                                        "recommend": _timed(_recommend(model)),
                                        "product and full sort": _timed(_full_sort(model))})  # fmt: skip
            report(f"scoring {items}: top 10 of {items:,} items x 64, one caller", "us", found)


def _timed(call: Callable[[int], object]) -> Callable[[], object]:
    async def measure() -> float:
        start = time.perf_counter()
        for number in range(CALLS):
            call(number)
        return (time.perf_counter() - start) / CALLS * 1e6

    return measure


def _one_pass(model: Recommender) -> Callable[[int], object]:
    return lambda number: model.user_factors[number] @ model.item_factors


def _recommend(model: Recommender) -> Callable[[int], object]:
    return lambda number: recommend(model, f"u{number:08d}", Query())


def _full_sort(model: Recommender) -> Callable[[int], object]:
    return lambda number: np.argsort(-(model.user_factors[number] @ model.item_factors))[:10]
