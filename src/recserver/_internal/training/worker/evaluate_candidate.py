"""One algorithm of a comparison, fitted and evaluated on a hold-out in its own process."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from recserver._internal.algorithms.evaluation.ranking_metrics import ranking_metrics
from recserver._internal.algorithms.evaluation.splitting import Holdout
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import Algorithm, FitContext
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.errors import TrainingFailed
from recserver._internal.training.ingest.source_reader import OnProgress
from recserver._internal.training.jobs import CandidateJob, CandidateResult
from recserver._internal.training.stage_timer import StageTimer
from recserver._internal.training.worker.evaluate import fit_checked
from recserver._internal.training.worker.train import ProgressReporter


def evaluate_candidate(job: CandidateJob, on_progress: OnProgress) -> CandidateResult:
    """Tune and fit as a training does, and evaluate on the hold-out.

    Raises:
        TrainingFailed: if the data cannot be learned from.
    """
    holdout, algorithm = load_holdout(job.holdout), load_algorithm(job.algorithm)
    warm_up(algorithm)
    reporter = ProgressReporter(on_progress, StageTimer(), 0)
    context, clock = FitContext(job.threads, reporter), SystemClock()
    training, began = holdout.training, clock.monotonic()
    reporter.begin("tuning")
    tuned = algorithm.tune(training, job.hyperparameters, context)
    reporter.begin("fitting")
    fitted = fit_checked(algorithm, training, {**job.hyperparameters, **tuned}, context)
    seconds = clock.monotonic() - began
    reporter.begin("evaluating")
    return CandidateResult(
        metrics=ranking_metrics(holdout, lambda users: fitted.scores(training, users)),
        hyperparameters=fitted.hyperparameters,
        seconds=seconds,
        peak_mb=peak_megabytes(),
        warnings=list(fitted.warnings),
    )


def warm_up(algorithm: Algorithm) -> None:
    """Fit a tiny data set, so that the time to load libraries is not measured: a worker loads them once."""
    tiny = Interactions(
        users=["a", "b"],
        items=["c", "d"],
        indptr=np.array([0, 2, 3]),
        indices=np.array([0, 1, 0], np.int32),
        ratings=np.ones(3, np.float32),
        rows_used=3,
    )
    with suppress(TrainingFailed):
        algorithm.fit(tiny, {}, FitContext())


def peak_megabytes() -> float | None:
    """The peak memory of this process in MiB; None if the system does not report it."""
    if sys.platform == "linux":  # getrusage counts what the parent had when it started this process
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


_ARRAYS = "indptr", "indices", "ratings", "times"
"""The fields of :class:`Interactions` that are arrays; the last may be None."""


def save_holdout(holdout: Holdout, path: Path) -> None:
    """Write a hold-out for :func:`load_holdout`."""
    training = holdout.training
    header = {name: getattr(training, name) for name in ("users", "items", "rows_used", "weighted")}
    text = json.dumps(header | {"by_time": holdout.by_time}).encode()
    arrays = {name: array for name in _ARRAYS if (array := getattr(training, name)) is not None}
    arrays |= {"held_users": holdout.users, "held_indptr": holdout.indptr, "held_items": holdout.items}
    np.savez(path, allow_pickle=False, header=np.frombuffer(text, np.uint8), **arrays)


def load_holdout(path: Path) -> Holdout:
    """What :func:`save_holdout` wrote."""
    with np.load(path) as found:
        header = json.loads(found["header"].tobytes())
        by_time = header.pop("by_time")
        training = Interactions(**header, **{name: found[name] for name in _ARRAYS if name in found})
        return Holdout(training, found["held_users"], found["held_indptr"], found["held_items"], by_time)
