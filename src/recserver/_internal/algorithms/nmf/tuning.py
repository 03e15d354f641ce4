"""Tuning of nmf: the regularization of the factors and the blend with the neighbour term."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from recserver._internal.algorithms.evaluation.ranking_metrics import ndcg_per_ranking
from recserver._internal.algorithms.evaluation.splitting import MIN_TUNING_USERS, Holdout, Indices, hold_out
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.nmf.fit import fit_neighbors, penalties_for
from recserver._internal.algorithms.nmf.hals import Matrix, factorize, random_start
from recserver._internal.algorithms.nmf.params import DEFAULT_REGULARIZATION, NMFParams
from recserver._internal.algorithms.preprocessing import input_matrices
from recserver._internal.algorithms.protocol import FitContext, FittedModel

REGULARIZATIONS = (0.3, 0.2, 0.13, 0.09, 0.06)
"""In this order, because each fit starts from the previous one, which is more regularized."""
BLENDS = (0.0, 0.3, 0.5, 0.7, 0.9)
FIRST_ITERATIONS, FURTHER_ITERATIONS = 12, 6
MAX_USERS = 1_000
MAX_PAIRS = 1_000_000

Candidate = tuple[float, float]
"""A regularization and a blend."""


def tune(interactions: Interactions, params: NMFParams, context: FitContext) -> dict[str, Any]:
    """Choose ``regularization`` and ``blend``, unless set, by NDCG@10 on held-out pairs."""
    regularizations = _regularization_candidates(params)
    blends = (BLENDS if params.blend is None else (params.blend,)) if params.neighbors else (0.0,)
    if len(regularizations) * len(blends) == 1:
        return {}
    holdout = hold_out(interactions, max_pairs=MAX_PAIRS, max_users=MAX_USERS, min_users=MIN_TUNING_USERS)
    if holdout is None:
        return {}
    scores = _scores(holdout, params, regularizations, blends, context)
    regularization, blend = max(scores, key=lambda one: (_smoothed_score(scores, one), scores[one]))
    return {"regularization": regularization} | ({"blend": blend} if params.neighbors else {})


def _smoothed_score(scores: Mapping[Candidate, float], candidate: Candidate) -> float:
    """The mean of a candidate and its neighbours in the grid: the best of 25 noisy scores is often chance."""
    regularizations, blends = (sorted(set(values)) for values in zip(*scores, strict=True))
    row, column = regularizations.index(candidate[0]), blends.index(candidate[1])
    near = {(value, candidate[1]) for value in regularizations[max(0, row - 1) : row + 2]}
    near |= {(candidate[0], value) for value in blends[max(0, column - 1) : column + 2]}
    return fmean(scores[one] for one in near)


def _regularization_candidates(params: NMFParams) -> tuple[float, ...]:
    if params.regularization is not None:
        return (params.regularization,)
    if params.blend == 1:
        return (DEFAULT_REGULARIZATION,)  # the factors have weight 0
    if params.weighting == "none" or params.alpha:
        return (0.0,)
    return REGULARIZATIONS if params.solver == "hals" else (DEFAULT_REGULARIZATION,)


def _scores(
    holdout: Holdout,
    params: NMFParams,
    regularizations: tuple[float, ...],
    blends: tuple[float, ...],
    context: FitContext,
) -> dict[Candidate, float]:
    """NDCG@10 of each candidate."""
    inputs = input_matrices(holdout.training, [], params.feedback, params.weighting)
    rank = min(params.n_components, *inputs.normalised.shape)
    users, items = random_start(inputs.normalised, rank, params.random_state)
    neighbors, scores = None, {}
    for index, regularization in enumerate(regularizations):
        fit = factorize(
            inputs.normalised,
            (users, items),
            penalties_for(inputs.normalised, params.model_copy(update={"regularization": regularization})),
            max_iter=FURTHER_ITERATIONS if index else FIRST_ITERATIONS,
            tol=params.tol,
            threads=context.threads,
            on_iteration=context.on_iteration,
        )
        users, items = fit.rows, fit.columns
        if neighbors is None and any(blends):
            unblended = params.model_copy(update={"blend": 1.0})
            neighbors = fit_neighbors(inputs, unblended, items, context.threads)
        scaled = items * inputs.item_scale[:, None]
        parts = FittedModel(users, scaled, {}), FittedModel(users[:, :0], scaled[:, :0], {}, neighbors=neighbors)

        def blended(rows: Indices, parts: tuple[FittedModel, FittedModel] = parts) -> Iterator[Matrix]:
            by_factors, by_neighbors = (part.scores(holdout.training, rows) for part in parts)
            for blend in blends:
                yield (1 - blend) * by_factors + blend * by_neighbors

        for blend, value in zip(blends, ndcg_per_ranking(holdout, blended), strict=True):
            scores[regularization, blend] = value
    return scores
