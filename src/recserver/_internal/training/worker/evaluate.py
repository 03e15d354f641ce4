"""The evaluation on a hold-out, compared with recommending the most popular items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recserver._internal.algorithms.evaluation.ranking_metrics import ranking_metrics
from recserver._internal.algorithms.evaluation.splitting import Holdout, hold_out
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.protocol import Algorithm, FitContext, FittedModel
from recserver._internal.core.errors import TrainingFailed
from recserver._internal.registry.quality_gate import MIN_EVALUATED_USERS


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        metrics: numbers and a boolean, with the names of ``model_metrics``; only ``evaluated_users``, 0, where
            there was nothing to evaluate.
        warnings: one sentence each.
        tuned: hyperparameters that were tuned, without the held-out pairs.
    """

    metrics: dict[str, int | float | bool]
    warnings: tuple[str, ...] = ()
    tuned: dict[str, Any] = field(default_factory=dict)


def evaluate(
    algorithm: Algorithm,
    hyperparameters: Mapping[str, Any],
    interactions: Interactions,
    context: FitContext | None = None,
) -> Evaluation:
    """Fit on a part of ``interactions``, and evaluate the ranking of the rest. A failure is only a warning."""
    holdout, context = hold_out(interactions), context or FitContext()
    if holdout is None:
        return Evaluation({"evaluated_users": 0})
    training = holdout.training
    try:
        tuned = algorithm.tune(training, hyperparameters, context)
        fitted = fit_checked(algorithm, training, {**hyperparameters, **tuned}, context)
    except TrainingFailed as error:
        warning = f"The model could not be evaluated on a part of its data: {error}"
        return Evaluation({"evaluated_users": 0}, (warning,))
    model = ranking_metrics(holdout, lambda users: fitted.scores(training, users))
    baseline = popularity_metrics(holdout)
    metrics = model | {f"popularity_{name}": value for name, value in baseline.items()}
    counted = {"evaluated_users": len(holdout.users), "split_by_time": holdout.by_time}
    warnings = tuple(_quality_warnings(model, baseline, len(holdout.users)))
    return Evaluation(metrics | counted, warnings, tuned)


def popularity_metrics(holdout: Holdout) -> dict[str, float]:
    """The metrics of recommending the most popular items to every user."""
    counts = holdout.training.item_counts().astype(np.float32)
    return ranking_metrics(holdout, lambda users: np.tile(counts, (len(users), 1)))


def fit_checked(
    algorithm: Algorithm, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
) -> FittedModel:
    """Fit, and check that all numbers are finite.

    Raises:
        TrainingFailed: if they are not, or if the data cannot be learned from.
    """
    fitted = algorithm.fit(interactions, hyperparameters, context)
    if not fitted.is_finite():
        raise TrainingFailed("The fit ended in values that are not finite: check the ratings.")
    return fitted


def _quality_warnings(model: Mapping[str, float], baseline: Mapping[str, float], n_users: int) -> Iterator[str]:
    ndcg, popularity = model["ndcg_at_10"], baseline["ndcg_at_10"]
    if n_users >= MIN_EVALUATED_USERS and ndcg <= popularity:
        yield (
            f"For {n_users} evaluated users the model is no better than recommending the most popular items "
            f"(ndcg_at_10 {ndcg:.4f} against {popularity:.4f}): check that the data chef's columns are the right "
            "ones, or try other hyperparameters, n_components first."
        )
