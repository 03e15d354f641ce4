"""Twenty retrainings in a row, each on 1 % more pairs: warm starts beside cold ones."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench.child import NOTE, THREADS, measured
from bench.datasets import files
from bench.report import report_rows
from bench.splits import interactions_of, job_of, subset
from recserver.algorithms.evaluation.given_split import holdout_from_split
from recserver.algorithms.evaluation.metrics import ranking_metrics as ranked
from recserver.algorithms.evaluation.splitting import hold_out
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.nmf.algorithm import nmf
from recserver.algorithms.protocol import FitContext, FittedModel
from recserver.training.jobs import TrainingJob
from recserver.training.worker.evaluate import fit_checked
from recserver.training.worker.evaluate_candidate import warm_up
from recserver.training.worker.train import finish_training
from recserver.training.worker.warm_start import load_previous

STEPS, GROWTH = 20, 0.01
MOST_USERS = 5_000

WORDS = "start", "warm setting", "cold setting"

Step = dict[str, Any]


async def main() -> None:
    async for name, csv in files():
        steps = (await measured("bench.warm:retrainings", csv)).answer
        rows = [*steps, _means(steps)]
        note = (
            f"{NOTE}; nmf by default; each step on {GROWTH:.0%} more pairs than the one before, in the order of "
            "time, up to all but the latest fifth of each user, which is foretold. Warm starts are those that a "
            "training makes by default: every so often one is cold. Choosing: of hyperparameters that are left "
            "to the data, regularization and blend, which a warm start takes over."
        )
        report_rows(f"warm {name}: {STEPS} retrainings, nmf", rows, note)


def _means(steps: list[Step]) -> Step:
    found: Step = {"step": "mean", "pairs": "", "new users": "", "new items": ""}
    warm = [step for step in steps if step["start"] == "warm"]
    assert warm, "every start was cold"
    found |= {name: mean(step[name] for step in steps) for name in steps[0] if name not in {*found, *WORDS}}
    fits = mean(step["cold fit, s"] for step in warm) / mean(step["warm fit, s"] for step in warm)
    return {name: found.get(name, "") for name in steps[0]} | {"start": f"warm fits {fits:.1f} times as fast"}


def retrainings(csv: str) -> Callable[[], list[Step]]:
    """Every step, cold and warm in turn."""
    warm_up(nmf)
    interactions = interactions_of(csv)
    parts, test = _parts(interactions)

    def work() -> list[Step]:
        steps: list[Step] = []
        with tempfile.TemporaryDirectory() as folder:
            job = job_of(Path(csv), "nmf", dict(nmf.default_params), previous_model=None, threads=THREADS,
                         out=Path(folder) / "0")  # fmt: skip
            _retrained(job, parts[0])
            for number in range(1, len(parts)):
                job = job.model_copy(update={"previous_model": job.out, "out": Path(folder) / str(number)})
                cold = job.model_copy(update={"previous_model": None, "out": Path(folder) / "cold"})
                steps.append(_step(number, parts[number - 1 : number + 1], test, (job, cold)))
        return steps

    return work


def _parts(interactions: Interactions) -> tuple[list[Interactions], Interactions]:
    """What each retraining learns from, the first one before them included; and what all are evaluated on.

    Those who are evaluated were there from the beginning, so that all steps are measured on the same.
    """
    holdout = hold_out(interactions, max_pairs=2**40, max_users=MOST_USERS)
    assert holdout is not None, "nobody has two pairs"
    training = holdout.training
    times = np.arange(training.n_pairs) if training.times is None else training.times
    rank = np.empty(training.n_pairs, np.int64)
    rank[np.argsort(times, kind="stable")] = np.arange(training.n_pairs)
    sizes = [round(training.n_pairs / (1 + GROWTH) ** left) for left in range(STEPS, -1, -1)]
    parts = [subset(training, rank < size) for size in sizes]
    there = set(parts[0].users)
    known = [place for place, user in enumerate(holdout.users.tolist()) if training.users[user] in there]
    held = [holdout.items[holdout.indptr[place] : holdout.indptr[place + 1]] for place in known]
    held = [np.unique(items[items >= 0]) for items in held]
    indices = np.concatenate(held).astype(np.int32)
    test = replace(
        training,
        users=[training.users[holdout.users[place]] for place in known],
        indptr=np.concatenate([[0], np.cumsum([len(items) for items in held])]).astype(np.int64),
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
    assert holdout is not None, "nobody can be evaluated"
    found: Step = {
        "step": number,
        "pairs": part.n_pairs,
        "new users": len(set(part.users) - set(before.users)),
        "new items": len(set(part.items) - set(before.items)),
    }
    for name, job in zip(("warm", "cold"), jobs, strict=True):
        factors, own = _retrained(job, part)
        metrics = ranked(holdout, lambda users, factors=factors: factors.scores(part, users))
        found |= {f"{name} {what}": value for what, value in own.items()}
        found[f"{name} NDCG@10"] = metrics["ndcg_at_10"]
    found["start"] = found.pop("warm start")
    del found["cold start"]
    return found


def _retrained(job: TrainingJob, part: Interactions) -> tuple[FittedModel, Step]:
    """What a training does between its reading and its end, without the evaluation."""
    began = time.perf_counter()
    found = load_previous(job, nmf, part)
    chosen = found.tuned
    if not chosen:
        holdout = hold_out(part)
        assert holdout is not None
        chosen = nmf.tune(holdout.training, {}, FitContext(THREADS))
    middle = time.perf_counter()
    factors = fit_checked(nmf, part, chosen, FitContext(THREADS, warm_start=found.warm_start))
    end = time.perf_counter()
    job.out.unlink(missing_ok=True)
    finish_training(job, nmf, part, factors, "", header=found.header(job, part, chosen))
    return factors, {
        "start": "cold" if found.warm_start is None else "warm",
        "choosing, s": middle - began,
        "fit, s": end - middle,
        "iterations": factors.metrics["iterations"],
        "setting": "/".join(f"{factors.hyperparameters[name]:g}" for name in ("regularization", "blend")),
    }
