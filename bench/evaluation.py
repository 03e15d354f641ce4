"""The time of an evaluation on held-out interactions, compared with the final fit; and its metrics."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import measure_round_robin, report
from bench.settings import n_rows, rounds
from bench.splits import read_interactions
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.nmf.algorithm import NMF, nmf
from recserver._internal.algorithms.protocol import FitContext, FittedModel
from recserver._internal.training.worker.evaluate import evaluate

N_TOPICS, ITEMS, ROWS_PER_USER = 32, 4_000, 60


async def main() -> None:
    interactions = _read_interactions()
    models: dict[int, FittedModel] = {}

    class CachedNMF(NMF):
        """Returns the model of an earlier fit, so that everything else can be timed."""

        def fit(
            self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
        ) -> FittedModel:
            size = interactions.n_pairs
            if size not in models:
                models[size] = super().fit(interactions, hyperparameters, context)
            return models[size]

    cached_nmf = CachedNMF(**nmf.default_params)
    evaluation = evaluate(cached_nmf, {}, interactions)
    seconds = await measure_round_robin(
        rounds(5),
        {
            "fit on all interactions": _timed(lambda: nmf.fit(interactions, {}, FitContext())),
            "evaluate()": _timed(lambda: evaluate(nmf, {}, interactions)),
            "evaluate() without its fit": _timed(lambda: evaluate(cached_nmf, {}, interactions)),
        },
    )
    size = f"{interactions.n_pairs:,} pairs, {len(interactions.users):,} users, {len(interactions.items):,} items"
    report(f"evaluation: time of fit and evaluation, nmf, {size}", "s", seconds)
    metrics = {name: [float(value)] for name, value in evaluation.metrics.items()}
    report("evaluation metrics: held-out metrics, nmf", "1", metrics)


def _timed(call: Callable[[], object]) -> Callable[[], Any]:
    async def measure() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return measure


def _read_interactions() -> Interactions:
    """The interactions of ``RECSERVER_BENCH_CSV``, or generated ones."""
    if given := os.environ.get("RECSERVER_BENCH_CSV"):
        return read_interactions(given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.csv")
        _write_rows(path, n_rows(300_000))
        return read_interactions(path)


def _write_rows(path: Path, count: int) -> None:
    """Write interactions of users who have one topic each; a fifth are with items of a random topic."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, max(100, count // ROWS_PER_USER), count)
    topics = rng.integers(0, N_TOPICS, users.max() + 1)[users]
    noise = rng.random(count) < 0.2
    topics[noise] = rng.integers(0, N_TOPICS, noise.sum())
    ranks = (rng.random(count) ** 2 * (ITEMS // N_TOPICS)).astype(int)
    rows = "\n".join(
        f"u{user},i{item},{time}"
        for time, (user, item) in enumerate(zip(users, ranks * N_TOPICS + topics, strict=True))
    )
    path.write_text(f"user_id,item_id,timestamp\n{rows}\n")
