"""Fits and trainings of recserver's algorithms, for :mod:`bench.fresh_process`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.csv_readers import SMALL_CSV
from bench.fresh_process import THREADS
from bench.memory import peak_mib
from bench.splits import training_job
from recserver._internal.algorithms.evaluation.ranking_metrics import ranking_metrics
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import FitContext
from recserver._internal.core.errors import TrainingFailed
from recserver._internal.training.ingest.source_reader import collect
from recserver._internal.training.jobs import Progress
from recserver._internal.training.worker.evaluate import fit_checked
from recserver._internal.training.worker.evaluate_candidate import load_holdout, warm_up
from recserver._internal.training.worker.train import train

Result = dict[str, Any]

REPORTED_HYPERPARAMETERS = ("n_components", "regularization", "alpha", "neighbors", "blend")


def fit_and_rank(
    split: str, algorithm_name: str, hyperparameters_json: str = "{}"
) -> Callable[[], Callable[[], Result]]:
    """Tune and fit on the training part of a split, as a training does; the result has the ranking metrics."""
    holdout, algorithm = load_holdout(Path(split)), load_algorithm(algorithm_name)
    hyperparameters = json.loads(hyperparameters_json)
    training, context = holdout.training, FitContext(THREADS)
    warm_up(algorithm)

    def fit() -> Callable[[], Result]:
        try:
            tuned = algorithm.tune(training, hyperparameters, context)
            model = fit_checked(algorithm, training, {**hyperparameters, **tuned}, context)
        except TrainingFailed as error:
            message = str(error)
            return lambda: {"error": message}
        setting = {"setting": _reported(model.hyperparameters)}
        return lambda: ranking_metrics(holdout, lambda users: model.scores(training, users)) | setting

    return fit


def _reported(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    return {name: hyperparameters[name] for name in REPORTED_HYPERPARAMETERS if name in hyperparameters}


def rank_factors(split: str, factors: str) -> Callable[[], Result]:
    """The ranking metrics of factors of another library, whose rows are the users and items of the split."""
    holdout = load_holdout(Path(split))
    with np.load(factors) as arrays:
        users, items = arrays["users"], arrays["items"]
    return lambda: ranking_metrics(holdout, lambda batch: (users[batch] @ items.T).astype(np.float32))


def run_training(
    csv: str, algorithm: str, hyperparameters_json: str, out: str
) -> Callable[[], Callable[[], Result]]:
    """A whole training, from the file to the packed model: metrics, and seconds and peak memory of each stage."""
    job = training_job(Path(csv), algorithm, json.loads(hyperparameters_json), out=Path(out), threads=THREADS)
    warm_up(load_algorithm(algorithm))
    small = Path(f"{out}.small")
    small.write_text(SMALL_CSV)
    collect(training_job(small), lambda _: None)
    peaks = StagePeaks()

    def run() -> Callable[[], Result]:
        Path(out).unlink(missing_ok=True)
        result = train(job, peaks)
        data = result.data_report
        assert data is not None
        peaks.end_stage()
        return lambda: {
            **result.model_metrics,
            "setting": _reported(result.hyperparameters),
            "seconds": data.seconds,
            "peaks": peaks.by_stage,
            "counts": {"pairs": data.n_pairs, "users": data.n_users, "items": data.n_items},
        }

    return run


class StagePeaks:
    """Records the peak memory of each stage in MiB.

    Where the system cannot reset the peak (``clear_refs`` of Linux), it is the peak up to the end of the stage.
    """

    def __init__(self) -> None:
        self._stage, self.by_stage = "", dict[str, float]()

    def __call__(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            self.end_stage()
            self._stage = progress.stage

    def end_stage(self) -> None:
        if self._stage:
            self.by_stage[self._stage] = peak_mib()
        clear_refs = Path("/proc/self/clear_refs")
        if clear_refs.exists():
            clear_refs.write_text("5")
