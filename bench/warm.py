"""Twenty retrainings in a row, each on 1 % more interactions: warm starts compared with cold starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench.datasets import datasets
from bench.fresh_process import NOTE, THREADS, measure_in_process
from bench.report import report_rows
from bench.splits import read_interactions, subset, training_job
from recserver._internal.algorithms.evaluation.given_split import holdout_from_split
from recserver._internal.algorithms.evaluation.ranking_metrics import ranking_metrics
from recserver._internal.algorithms.evaluation.splitting import hold_out
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.nmf.algorithm import nmf
from recserver._internal.algorithms.protocol import FitContext, FittedModel
from recserver._internal.training.jobs import TrainingJob
from recserver._internal.training.worker.evaluate import fit_checked
from recserver._internal.training.worker.evaluate_candidate import warm_up
from recserver._internal.training.worker.train import finish_training
from recserver._internal.training.worker.warm_start import load_previous

STEPS, GROWTH = 20, 0.01
MAX_USERS = 5_000

TEXT_COLUMNS = "start", "warm setting", "cold setting"

Step = dict[str, Any]


async def main() -> None:
    async for name, csv in datasets():
        steps = (await measure_in_process("bench.warm:retrainings", csv)).result
        rows = [*steps, _means(steps)]
        note = (
            f"{NOTE}; nmf with default hyperparameters; each step adds {GROWTH:.0%} of interactions in the order "
            "of time; test set: the latest fifth of each user's interactions. Warm starts follow the default "
            "policy of a training, which periodically starts cold. Tuning selects regularization and blend, which "
            "a warm start reuses."
        )
        report_rows(f"warm {name}: {STEPS} retrainings with warm and cold starts, nmf", rows, note)


def _means(steps: list[Step]) -> Step:
    means: Step = {"step": "mean", "pairs": "", "new users": "", "new items": ""}
    warm = [step for step in steps if step["start"] == "warm"]
    assert warm, "all starts were cold"
    means |= {name: mean(step[name] for step in steps) for name in steps[0] if name not in {*means, *TEXT_COLUMNS}}
    fits = mean(step["cold fit, s"] for step in warm) / mean(step["warm fit, s"] for step in warm)
    return {name: means.get(name, "") for name in steps[0]} | {"start": f"speed-up of warm fits {fits:.1f}"}


def retrainings(csv: str) -> Callable[[], list[Step]]:
    """For :mod:`bench.fresh_process`: all steps, each with a warm and a cold start."""
    warm_up(nmf)
    interactions = read_interactions(csv)
    parts, test = _parts(interactions)

    def run() -> list[Step]:
        steps: list[Step] = []
        with tempfile.TemporaryDirectory() as folder:
            job = training_job(Path(csv), "nmf", dict(nmf.default_params), previous_model=None, threads=THREADS,
                               out=Path(folder) / "0")  # fmt: skip
            _retrain(job, parts[0])
            for number in range(1, len(parts)):
                job = job.model_copy(update={"previous_model": job.out, "out": Path(folder) / str(number)})
                cold = job.model_copy(update={"previous_model": None, "out": Path(folder) / "cold"})
                steps.append(_step(number, parts[number - 1 : number + 1], test, (job, cold)))
        return steps

    return run


def _parts(interactions: Interactions) -> tuple[list[Interactions], Interactions]:
    """The training set of the first training and of each retraining, and the common test set.

    Only users of the first training set are evaluated, so that the test set is the same at every step.
    """
    holdout = hold_out(interactions, max_pairs=2**40, max_users=MAX_USERS)
    assert holdout is not None, "no user has two interactions"
    training = holdout.training
    times = np.arange(training.n_pairs) if training.times is None else training.times
    rank = np.empty(training.n_pairs, np.int64)
    rank[np.argsort(times, kind="stable")] = np.arange(training.n_pairs)
    sizes = [round(training.n_pairs / (1 + GROWTH) ** remaining) for remaining in range(STEPS, -1, -1)]
    parts = [subset(training, rank < size) for size in sizes]
    known_users = set(parts[0].users)
    positions = [
        position for position, user in enumerate(holdout.users.tolist()) if training.users[user] in known_users
    ]
    test_items = [holdout.items[holdout.indptr[position] : holdout.indptr[position + 1]] for position in positions]
    test_items = [np.unique(items[items >= 0]) for items in test_items]
    indices = np.concatenate(test_items).astype(np.int32)
    test = replace(
        training,
        users=[training.users[holdout.users[position]] for position in positions],
        indptr=np.concatenate([[0], np.cumsum([len(items) for items in test_items])]).astype(np.int64),
        indices=indices,
        ratings=np.ones(len(indices), np.float32),
        rows_used=len(indices),
        times=None,
    )
    return parts, test


def _step(
    number: int, parts: list[Interactions], test: Interactions, jobs: tuple[TrainingJob, TrainingJob]
) -> Step:
    before, part = parts
    holdout = holdout_from_split(part, test)
    assert holdout is not None, "no user can be evaluated"
    row: Step = {
        "step": number,
        "pairs": part.n_pairs,
        "new users": len(set(part.users) - set(before.users)),
        "new items": len(set(part.items) - set(before.items)),
    }
    for name, job in zip(("warm", "cold"), jobs, strict=True):
        model, step = _retrain(job, part)
        metrics = ranking_metrics(holdout, lambda users, model=model: model.scores(part, users))
        row |= {f"{name} {column}": value for column, value in step.items()}
        row[f"{name} NDCG@10"] = metrics["ndcg_at_10"]
    row["start"] = row.pop("warm start")
    del row["cold start"]
    return row


def _retrain(job: TrainingJob, part: Interactions) -> tuple[FittedModel, Step]:
    """Run the steps of a training after reading, except for the evaluation."""
    start = time.perf_counter()
    previous = load_previous(job, nmf, part)
    hyperparameters = previous.tuned
    if not hyperparameters:
        holdout = hold_out(part)
        assert holdout is not None
        hyperparameters = nmf.tune(holdout.training, {}, FitContext(THREADS))
    tuned = time.perf_counter()
    model = fit_checked(nmf, part, hyperparameters, FitContext(THREADS, warm_start=previous.warm_start))
    end = time.perf_counter()
    job.out.unlink(missing_ok=True)
    finish_training(job, nmf, part, model, "", header=previous.header(job, part, hyperparameters))
    return model, {
        "start": "cold" if previous.warm_start is None else "warm",
        "tuning, s": tuned - start,
        "fit, s": end - tuned,
        "iterations": model.metrics["iterations"],
        "setting": "/".join(f"{model.hyperparameters[name]:g}" for name in ("regularization", "blend")),
    }
