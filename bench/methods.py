"""What is measured of our own algorithms. These functions run in children of :mod:`bench.child`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.child import THREADS, peak
from bench.readers import FEW
from bench.splits import job_of
from recserver.algorithms.evaluation.metrics import ranking_metrics
from recserver.algorithms.lookup import load_algorithm
from recserver.algorithms.protocol import FitContext, FittedModel
from recserver.core.errors import TrainingFailed
from recserver.training.ingest.source_reader import collect
from recserver.training.jobs import Progress
from recserver.training.worker.evaluate import fit_checked
from recserver.training.worker.evaluate_candidate import load_holdout, warm_up
from recserver.training.worker.train import train

Answer = dict[str, Any]

TOLD = ("n_components", "regularization", "alpha", "neighbors", "blend")
"""Hyperparameters that a table names."""


def ours(split: str, name: str, given: str = "{}") -> Callable[[], Callable[[], Answer]]:
    """Choose what is left to the data and fit, as a training does. The answer is how it ranks."""
    holdout, method, hyperparameters = load_holdout(Path(split)), load_algorithm(name), json.loads(given)
    training, surroundings = holdout.training, FitContext(THREADS)
    warm_up(method)

    def work() -> Callable[[], Answer]:
        try:
            chosen = method.tune(training, hyperparameters, surroundings)
            factors = fit_checked(method, training, {**hyperparameters, **chosen}, surroundings)
        except TrainingFailed as error:
            refused = str(error)
            return lambda: {"refused": refused}
        return lambda: ranking_metrics(holdout, lambda users: factors.scores(training, users)) | _setting(factors)

    return work


def _setting(factors: FittedModel) -> Answer:
    return {"setting": {name: factors.hyperparameters[name] for name in TOLD if name in factors.hyperparameters}}


def ranked(split: str, factors: str) -> Callable[[], Answer]:
    """How somebody else's factors rank: users and items by the numbers that they have in the split."""
    holdout = load_holdout(Path(split))
    with np.load(factors) as found:
        users, items = found["users"], found["items"]
    return lambda: ranking_metrics(holdout, lambda some: (users[some] @ items.T).astype(np.float32))


def training(csv: str, name: str, given: str, out: str) -> Callable[[], Answer]:
    """A whole training, from the file to the packed model: how it ranks, seconds and peak memory by stage."""
    job = job_of(Path(csv), name, json.loads(given), out=Path(out), threads=THREADS)
    warm_up(load_algorithm(name))
    few = Path(f"{out}.few")
    few.write_text(FEW)
    collect(job_of(few), lambda _: None)
    peaks = Peaks()

    def work() -> Callable[[], Answer]:
        Path(out).unlink(missing_ok=True)
        result = train(job, peaks)
        assert result.data_report is not None
        metrics, by_stage = result.model_metrics, peaks.end()
        counts = {"pairs": result.data_report.n_pairs, "users": result.data_report.n_users,
                  "items": result.data_report.n_items}  # fmt: skip
        setting = {name: result.hyperparameters[name] for name in TOLD if name in result.hyperparameters}
        stages = result.data_report.seconds
        return lambda: {**metrics, "setting": setting, "seconds": stages, "peaks": by_stage, "counts": counts}

    return work


class Peaks:
    """The most memory by stage, in MiB, where the system can be asked to begin anew; else up to its end."""

    def __init__(self) -> None:
        self._stage, self._found = "", dict[str, float]()

    def __call__(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            self.end()
            self._stage = progress.stage

    def end(self) -> dict[str, float]:
        if self._stage:
            self._found[self._stage] = peak()
        forget = Path("/proc/self/clear_refs")
        if forget.exists():
            forget.write_text("5")
        return self._found
