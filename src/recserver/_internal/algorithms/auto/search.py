"""The comparison behind ``auto``: cheapest algorithms first, and only those expected to end within the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from recserver._internal.algorithms.auto.params import AutoParams, initial_hyperparameters
from recserver._internal.algorithms.evaluation.ranking_metrics import ndcg_per_ranking
from recserver._internal.algorithms.evaluation.splitting import MIN_TUNING_USERS, Holdout, hold_out
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import FitContext
from recserver._internal.core.clock import Clock, SystemClock
from recserver._internal.core.errors import TrainingFailed


@dataclass(slots=True)
class Comparison:
    """The results so far.

    Attributes:
        scores: algorithm → its ndcg_at_10.
        tuned: algorithm → its tuned hyperparameters.
        notes: sentences about algorithms that could not be compared.
        expected_seconds: the sum of :func:`typical_seconds` of the algorithms in ``scores``.
        actual_seconds: the sum of the seconds that they took.
    """

    scores: dict[str, float] = field(default_factory=dict)
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    expected_seconds: float = 0.0
    actual_seconds: float = 0.0

    def estimate(self, typical: float) -> float:
        """The expected seconds on this machine. One second is added to both sums to damp the first ratios."""
        return typical * (self.actual_seconds + 1) / (self.expected_seconds + 1)


class _OutOfTime(Exception):
    """The time budget is used up."""


def select_algorithm(
    interactions: Interactions, params: AutoParams, context: FitContext, clock: Clock | None = None
) -> dict[str, Any]:
    """The best of ``params.algorithms`` by NDCG@10 on held-out pairs; empty if there are too few data."""
    holdout = hold_out(interactions, min_users=MIN_TUNING_USERS)
    if holdout is None:
        return {}
    clock, comparison = clock or SystemClock(), Comparison()
    typical = {name: typical_seconds(name, holdout.training) for name in params.algorithms}
    deadline = clock.monotonic() + params.time_budget
    for name in sorted(typical, key=typical.__getitem__):
        remaining, needed = deadline - clock.monotonic(), comparison.estimate(typical[name])
        if needed > remaining:
            comparison.notes.append(
                f"{name} was not compared: it would take about {needed:.3g} seconds, and only "
                f"{max(remaining, 0):.3g} of the time_budget of {params.time_budget:g} were left."
            )
            continue
        started = clock.monotonic()
        _compare(name, holdout, params, _with_deadline(context, clock, deadline), comparison)
        if name in comparison.scores:
            comparison.expected_seconds += typical[name]
            comparison.actual_seconds += clock.monotonic() - started
    return _selection(comparison, typical)


def _compare(name: str, holdout: Holdout, params: AutoParams, context: FitContext, comparison: Comparison) -> None:
    """Tune, fit and evaluate one algorithm; a failure becomes a note."""
    algorithm, initial, training = load_algorithm(name), initial_hyperparameters(name, params), holdout.training
    try:
        tuned = algorithm.tune(training, initial, context)
        model = algorithm.fit(training, {**initial, **tuned}, context)
        if not model.is_finite():
            raise TrainingFailed("the fitted model has numbers that are not finite.")
    except TrainingFailed as error:
        comparison.notes.append(f"{name} was not compared: {error}")
    except MemoryError:
        comparison.notes.append(f"{name} was not compared: there was not enough memory.")
    except _OutOfTime:
        comparison.notes.append(f"{name} was not compared: it did not end within the time_budget.")
    else:
        comparison.tuned[name] = tuned
        (comparison.scores[name],) = ndcg_per_ranking(holdout, lambda users: [model.scores(training, users)])


def _with_deadline(context: FitContext, clock: Clock, deadline: float) -> FitContext:
    """The same context, but an iteration that ends after the deadline raises _OutOfTime."""

    def on_iteration(iteration: int, iterations: int, loss: float) -> None:
        if clock.monotonic() > deadline:
            raise _OutOfTime
        context.on_iteration(iteration, iterations, loss)

    return replace(context, on_iteration=on_iteration, warm_start=None)


def _selection(comparison: Comparison, typical: Mapping[str, float]) -> dict[str, Any]:
    if not comparison.scores:
        name = min(typical, key=typical.__getitem__)
        notes = [
            *comparison.notes,
            f"{name} was selected as the cheapest: raise time_budget to compare algorithms.",
        ]
        return {"algorithm": name, "hyperparameters": {}, "compared": {}, "notes": notes}
    name = max(comparison.scores, key=comparison.scores.__getitem__)
    return {
        "algorithm": name,
        "hyperparameters": comparison.tuned[name],
        "compared": {one: round(score, 6) for one, score in comparison.scores.items()},
        "notes": comparison.notes,
    }


def typical_seconds(name: str, interactions: Interactions) -> float:
    """Roughly the seconds that tuning and fitting take on one core of a typical machine."""
    pairs, users, items = interactions.n_pairs, len(interactions.users), len(interactions.items)
    rows, squares = users + items, float(items) ** 2
    seconds = {
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
    return 0.01 + seconds[name]
