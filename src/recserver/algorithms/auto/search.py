"""The comparison behind ``auto``: the cheapest first, and none that would not come to its end in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from recserver.algorithms.auto.params import AutoParams, initial_hyperparameters
from recserver.algorithms.builtin import builtin_algorithm
from recserver.algorithms.evaluation.metrics import ndcg_per_ranking
from recserver.algorithms.evaluation.splitting import Holdout, hold_out
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.protocol import FitContext
from recserver.core.clock import Clock, SystemClock
from recserver.core.errors import TrainingFailed

MIN_USERS = 20
"""With fewer to ask, chance would choose."""


@dataclass(slots=True)
class Comparison:
    """What is known so far.

    Attributes:
        scores: algorithm → its ndcg_at_10.
        chosen: algorithm → hyperparameters that it left to the data.
        notes: sentences.
        expected, taken: seconds of those that came to an end: by :func:`usual_seconds`, and in truth.
    """

    scores: dict[str, float] = field(default_factory=dict)
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    expected_seconds: float = 0.0
    actual_seconds: float = 0.0

    def estimate(self, typical: float) -> float:
        """How long something will take here that usually takes so long. A second or less so far proves little."""
        return typical * (self.actual_seconds + 1) / (self.expected_seconds + 1)


class _OutOfTime(Exception):
    """The budget is used up."""


def select_algorithm(
    interactions: Interactions, params: AutoParams, context: FitContext, clock: Clock | None = None
) -> dict[str, Any]:
    """The best of ``params.algorithms`` by NDCG@10 on pairs that are held out. Nothing if the data are too few."""
    holdout = hold_out(interactions)
    if holdout is None or len(holdout.users) < MIN_USERS:
        return {}
    clock, found = clock or SystemClock(), Comparison()
    usual = {name: typical_seconds(name, holdout.training) for name in params.algorithms}
    end = clock.monotonic() + params.time_budget
    for name in sorted(usual, key=usual.__getitem__):
        left, needed = end - clock.monotonic(), found.estimate(usual[name])
        if needed > left:
            found.notes.append(
                f"{name} was not compared: it would take about {needed:.3g} seconds, and of the time_budget "
                f"of {params.time_budget:g} only {max(left, 0):.3g} were left."
            )
            continue
        began = clock.monotonic()
        _compare(name, holdout, params, _with_deadline(context, clock, end), found)
        if name in found.scores:
            found.expected_seconds, found.actual_seconds = (
                found.expected_seconds + usual[name],
                found.actual_seconds + clock.monotonic() - began,
            )
    return _selection(found, usual)


def _compare(name: str, holdout: Holdout, params: AutoParams, context: FitContext, comparison: Comparison) -> None:
    """Choose and fit as the algorithm itself would, and measure."""
    method, given, training = builtin_algorithm(name), initial_hyperparameters(name, params), holdout.training
    try:
        chosen = method.tune(training, given, context)
        factors = method.fit(training, {**given, **chosen}, context)
    except TrainingFailed as error:
        comparison.notes.append(f"{name} was not compared: {error}")
    except MemoryError:
        comparison.notes.append(f"{name} was not compared: there is too little memory for it.")
    except _OutOfTime:
        comparison.notes.append(f"{name} was not compared: it did not end within the time_budget.")
    else:
        if factors.is_finite():
            comparison.tuned[name] = chosen
            (comparison.scores[name],) = ndcg_per_ranking(holdout, lambda users: [factors.scores(training, users)])
        else:
            comparison.notes.append(f"{name} was not compared: its fit ended in values that are not finite.")


def _with_deadline(context: FitContext, clock: Clock, deadline: float) -> FitContext:
    """The same, but whoever tells of an iteration after the end is ended."""

    def told(iteration: int, iterations: int, loss: float) -> None:
        if clock.monotonic() > deadline:
            raise _OutOfTime
        context.on_iteration(iteration, iterations, loss)

    return replace(context, on_iteration=told, warm_start=None)


def _selection(comparison: Comparison, typical: Mapping[str, float]) -> dict[str, Any]:
    if not comparison.scores:
        name = min(typical, key=typical.__getitem__)
        notes = [*comparison.notes, f"{name} was taken because it is the cheapest: raise time_budget to compare."]
        return {"algorithm": name, "hyperparameters": {}, "compared": {}, "notes": notes}
    name = max(comparison.scores, key=comparison.scores.__getitem__)
    return {
        "algorithm": name,
        "hyperparameters": comparison.tuned[name],
        "compared": {one: round(score, 6) for one, score in comparison.scores.items()},
        "notes": comparison.notes,
    }


def typical_seconds(name: str, interactions: Interactions) -> float:
    """About how long choosing and fitting take on one core of a usual machine, to tell the cheap from the dear."""
    pairs, users, items = interactions.n_pairs, len(interactions.users), len(interactions.items)
    rows, squares = users + items, float(items) ** 2
    usual = {
        "popular": 1e-8 * pairs,
        "svd_fast": 1e-6 * pairs + 1e-5 * rows,
        "svd": 2e-6 * pairs + 2e-5 * rows,
        "svd_accurate": 4e-6 * pairs + 4e-5 * rows,
        "item_knn": 4e-6 * pairs + 5e-5 * items,
        "nmf_fast": 1e-5 * pairs + 1e-4 * items,
        "nmf": 6e-5 * pairs + 3e-4 * items,
        "nmf_accurate": 1.2e-4 * pairs + 9e-4 * items,
        "als": 3e-5 * pairs + 5e-4 * rows,
        "ease": 5e-8 * squares + 8e-12 * squares * items,
    }
    return 0.01 + usual[name]
