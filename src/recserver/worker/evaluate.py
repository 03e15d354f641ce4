"""The evaluation on a hold-out: how well a model foretells what users take, beside the most popular items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms import Algorithm, Factors
from recserver.errors import TrainingFailed
from recserver.interactions import Interactions
from recserver.recommend.scoring import best
from recserver.worker.holdout import Holdout, Rows, hold_out, pairs_of

SHORT, LONG = 10, 20
"""How many items are recommended to each user: recall looks at the long list, everything else at the short one."""
ENOUGH_USERS = 50
"""From so many evaluated users on, being no better than popularity is worth a warning, not an accident."""
BLOCK_CELLS = 2**22
"""Scores that are in memory together: 16 MiB."""

Score = Callable[[Rows], NDArray[np.float32]]
"""From some rows to the scores of all items, shape (rows, items)."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        metrics: numbers and a boolean, under the names of ``model_metrics``; only ``evaluated_users``, 0, where
            there was nothing to evaluate.
        warnings: sentences.
    """

    metrics: dict[str, int | float | bool]
    warnings: tuple[str, ...] = ()


def evaluate(method: Algorithm, hyperparameters: Mapping[str, Any], interactions: Interactions) -> Evaluation:
    """Fit ``method`` on a part of ``interactions``, and measure how it ranks the rest. It fails no training."""
    holdout = hold_out(interactions)
    if holdout is None:
        return Evaluation({"evaluated_users": 0})
    try:
        factors = fitted(method, holdout.training, hyperparameters)
    except TrainingFailed as error:
        warning = f"The model could not be evaluated on a part of its data: {error}"
        return Evaluation({"evaluated_users": 0}, (warning,))
    popularity = holdout.training.item_counts().astype(np.float32)
    model = measured(holdout, _scores_of(factors))
    baseline = measured(holdout, lambda users: np.tile(popularity, (len(users), 1)))
    metrics = model | {f"popularity_{name}": value for name, value in baseline.items()}
    counted = {"evaluated_users": len(holdout.users), "split_by_time": holdout.by_time}
    return Evaluation(metrics | counted, tuple(_doubts(model, baseline, len(holdout.users))))


def fitted(method: Algorithm, interactions: Interactions, hyperparameters: Mapping[str, Any]) -> Factors:
    """Factors of finite numbers.

    Raises:
        TrainingFailed: if there are none.
    """
    factors = method.fit(interactions, hyperparameters)
    if not (np.isfinite(factors.users).all() and np.isfinite(factors.items).all()):
        raise TrainingFailed("The fit ended in values that are not finite: lower alpha, or check the ratings.")
    return factors


def _scores_of(factors: Factors) -> Score:
    items = factors.items.T

    def scores(users: Rows) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):  # the server refuses such a model, and says so
            product: NDArray[np.float32] = factors.users[users] @ items
        return product

    return scores


def _doubts(model: Mapping[str, float], baseline: Mapping[str, float], n_users: int) -> Iterator[str]:
    ours, theirs = model["ndcg_at_10"], baseline["ndcg_at_10"]
    if n_users >= ENOUGH_USERS and ours <= theirs:
        yield (
            f"The model foretells what {n_users} users took no better than a list of the most popular items does "
            f"(ndcg_at_10 {ours:.4f} against {theirs:.4f}): check that the data chef's columns are the right "
            "ones, or try other hyperparameters, n_components first."
        )


def measured(holdout: Holdout, score: Score) -> dict[str, float]:
    """The metrics of a ranking of all items, those that the user has in the training part left out.

    Every held-out item is relevant, and none more than another. With L the items recommended to a user, best
    first, and R those held out, means over the evaluated users of:

    ``ndcg_at_10``: sum over ranks r <= 10 with L[r] in R of 1 / log2(r + 1), divided by the largest sum that |R|
        allows (Järvelin and Kekäläinen 2002).
    ``recall_at_20``: the share of R within the first 20 (Cremonesi, Koren and Turrin 2010).
    ``hr_at_10``: 1 if any of R is within the first 10, else 0 (Deshpande and Karypis 2004).

    And of all users together, ``coverage_at_10``: the share of the training part's items that are among anybody's
    first 10 (Herlocker et al. 2004). Equal scores stand in the order of the items' ids, as when serving.
    """
    n_held = np.diff(holdout.indptr)
    hits = np.zeros((len(holdout.users), LONG), bool)
    recommended = np.zeros(len(holdout.training.items), bool)
    for place, ranked in enumerate(_rankings(holdout, score)):
        held = holdout.items[holdout.indptr[place] : holdout.indptr[place + 1]]
        hits[place, : len(ranked)] = np.isin(ranked, held)
        recommended[ranked[:SHORT]] = True
    gains = 1 / np.log2(np.arange(SHORT) + 2)
    ideal = np.cumsum(gains)[np.minimum(n_held, SHORT) - 1]
    return {
        "ndcg_at_10": float((hits[:, :SHORT] @ gains / ideal).mean()),
        "recall_at_20": float((hits.sum(axis=1) / n_held).mean()),
        "hr_at_10": float(hits[:, :SHORT].any(axis=1).mean()),
        "coverage_at_10": float(recommended.mean()),
    }


def _rankings(holdout: Holdout, score: Score) -> Iterator[NDArray[np.intp]]:
    """The best items for each evaluated user, as columns of the training part, at most ``LONG``."""
    training = holdout.training
    block = max(1, BLOCK_CELLS // len(training.items))
    for start in range(0, len(holdout.users), block):
        users = holdout.users[start : start + block]
        scores = score(users)
        pairs, rows = pairs_of(training.indptr, users)
        scores[rows, training.indices[pairs]] = -np.inf
        for one in scores:
            yield best(one, LONG)
