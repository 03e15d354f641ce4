"""What the evaluation on a hold-out costs beside the fit that it doubles, in seconds; and what it finds."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import alternate, report
from bench.rows import n_rows, rounds
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.nmf.algorithm import NMF, nmf
from recserver.algorithms.protocol import FitContext, FittedModel
from recserver.chefs.source_policy import SourcePolicy
from recserver.training.ingest.source_reader import collect
from recserver.training.jobs import TrainingJob
from recserver.training.worker.evaluate import evaluate

TASTES, ITEMS, ROWS_A_USER = 32, 4_000, 60


async def main() -> None:
    interactions = _interactions()
    known: dict[int, FittedModel] = {}

    class Fitted(NMF):
        """Gives again what was fitted before, so that everything else can be timed."""

        def fit(
            self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: FitContext
        ) -> FittedModel:
            size = interactions.n_pairs
            known[size] = (
                known[size] if size in known else super().fit(interactions, hyperparameters, surroundings)
            )
            return known[size]

    fitted = Fitted(**nmf.default_params)
    evaluation = evaluate(fitted, {}, interactions)
    found = await alternate(
        rounds(5),
        {
            "the fit on everything": _timed(lambda: nmf.fit(interactions, {}, FitContext())),
            "evaluate()": _timed(lambda: evaluate(nmf, {}, interactions)),
            "of which splitting and ranking": _timed(lambda: evaluate(fitted, {}, interactions)),
        },
    )
    size = f"{interactions.n_pairs:,} pairs, {len(interactions.users):,} users, {len(interactions.items):,} items"
    report(f"evaluation: nmf by default, {size}", "s", found)
    metrics = {name: [float(value)] for name, value in evaluation.metrics.items()}
    report("evaluation metrics: of the same", "1", metrics)


def _timed(call: Callable[[], object]) -> Callable[[], Any]:
    async def measure() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return measure


def _interactions() -> Interactions:
    """Of the file in ``RECSERVER_BENCH_CSV``, else made up."""
    with tempfile.TemporaryDirectory() as folder:
        given = os.environ.get("RECSERVER_BENCH_CSV")
        path = Path(given).absolute() if given else Path(folder, "rows.csv")
        if not given:
            _write_rows(path, n_rows(300_000))
        columns = path.open().readline().strip().split(",")
        job = TrainingJob(
            model_id="m",
            model_version=1,
            algorithm="nmf",
            hyperparameters={},
            data_chef_id="c",
            data_chef={"type": "csv", "path": str(path)}
            | ({"timestamp_column": "timestamp"} if "timestamp" in columns else {}),
            policy=SourcePolicy(data_dir=Path(folder), csv_roots=(path.parent,)),
            out=Path(folder, "out"),
        )
        return collect(job, lambda _: None).interactions


def _write_rows(path: Path, count: int) -> None:
    """Users with a taste of their own, who now and then take what others like."""
    random = np.random.default_rng(0)
    users = random.integers(0, max(100, count // ROWS_A_USER), count)
    tastes = random.integers(0, TASTES, users.max() + 1)[users]
    strays = random.random(count) < 0.2
    tastes[strays] = random.integers(0, TASTES, strays.sum())
    liked = (random.random(count) ** 2 * (ITEMS // TASTES)).astype(int)
    rows = "\n".join(
        f"u{user},i{item},{time}"
        for time, (user, item) in enumerate(zip(users, liked * TASTES + tastes, strict=True))
    )
    path.write_text(f"user_id,item_id,timestamp\n{rows}\n")
