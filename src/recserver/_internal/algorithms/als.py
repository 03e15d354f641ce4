"""Alternating least squares for implicit feedback (Hu, Koren and Volinsky 2008), exact in every step.

Objective: ``sum over all u, i of c_ui (p_ui - w_u . h_i)^2 + regularization (|W|^2 + |H|^2)`` with p = 1 and
``c = 1 + alpha b`` for pairs that occur, b being their weights, and p = 0, c = 1 for all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recserver._internal.algorithms.base import BaseAlgorithm, Feedback, Params, RandomState, Real
from recserver._internal.algorithms.fold_in import FoldIn
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.protocol import FitContext, FittedModel, HyperParams
from recserver._internal.core.validation.values import WholeNumber

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Matrix = NDArray[np.float32]

BLOCK_CELLS = 2**21
"""Limit of a block's gathered factors, and of its systems: 8 MiB each, unless a single row has more."""

MIN_RIDGE = 1e-6


class ALSParams(Params):
    """Hyperparameters of als."""

    n_components: Annotated[WholeNumber, Field(ge=1, le=1000)] = 64
    max_iter: Annotated[WholeNumber, Field(ge=1, le=10_000)] = 15
    random_state: RandomState = 42
    alpha: Annotated[Real, Field(gt=0, le=1e6)] = 10.0
    regularization: Annotated[Real, Field(ge=0, le=1e6)] = 30.0
    feedback: Feedback = "auto"


class ALS(BaseAlgorithm[ALSParams]):
    """Weighted least squares, with factors of any sign."""

    model_type = "als"
    model_class = "ALSRecommendationModel"
    params = ALSParams
    description = "Alternating least squares for implicit feedback, with a confidence for each interaction."
    use_case = "Clicks, views and orders, and recommendations from the long tail of the catalogue."

    def fit(self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext) -> FittedModel:
        from recserver._internal.algorithms.preprocessing import clamp_rank, weight_matrix
        from recserver._internal.algorithms.threads import thread_pool

        warnings: list[str] = []
        params = clamp_rank(self.resolve(hyperparameters), interactions, warnings)
        weights, weighting = weight_matrix(interactions, warnings, params.feedback)
        transposed = weights.T.tocsr()
        random = np.random.default_rng(params.random_state)
        users, items = (
            random.standard_normal((n, params.n_components), np.float32) * np.float32(0.01) for n in weights.shape
        )
        with thread_pool(context.threads) as pool:
            for iteration in range(1, params.max_iter + 1):
                _solve(weights, users, items, params, pool)
                _solve(transposed, items, users, params, pool)
                context.on_iteration(iteration, params.max_iter, _loss(weights, users, items, params))
        l2 = params.regularization + MIN_RIDGE
        return FittedModel(
            users,
            items,
            params.model_dump(),
            metrics={"n_components": params.n_components},
            warnings=tuple(warnings),
            fold_in=FoldIn(np.ones(len(items), np.float32), items.T @ items, weighting, l2=l2, alpha=params.alpha),
            confidences=weights.data,
        )


def _solve(
    weights: csr_array, factors: Matrix, fixed: Matrix, params: ALSParams, pool: ThreadPoolExecutor
) -> None:
    """Set each row of ``factors`` to the minimum of the objective, with the other side ``fixed``."""
    k = factors.shape[1]
    common = fixed.T @ fixed
    common[np.diag_indices(k)] += np.float32(params.regularization + MIN_RIDGE)
    lengths = np.diff(weights.indptr)

    def solve_rows(rows: NDArray[np.intp]) -> None:
        width = max(1, int(lengths[rows].max()))
        occurs = np.arange(width) < lengths[rows][:, None]
        entries = np.where(occurs, weights.indptr[rows][:, None] + np.arange(width), 0)
        extra = np.where(occurs, weights.data[entries], 0) * np.float32(params.alpha)
        gathered = fixed[weights.indices[entries]]
        systems = common + (gathered * extra[:, :, None]).transpose(0, 2, 1) @ gathered
        targets = np.einsum("rl,rlk->rk", np.where(extra > 0, 1 + extra, 0), gathered)
        factors[rows] = np.linalg.solve(systems, targets[:, :, None])[:, :, 0]

    list(pool.map(solve_rows, _blocks(lengths, k)))


def _blocks(lengths: NDArray[np.int64], k: int) -> Iterator[NDArray[np.intp]]:
    """Blocks of rows of similar length, such that what is gathered for a block stays within BLOCK_CELLS."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = min(len(order), start + max(1, BLOCK_CELLS // k**2))
        while end - start > 1 and int(lengths[order[end - 1]]) * k * (end - start) > BLOCK_CELLS:
            end = start + (end - start) // 2
        yield order[start:end]
        start = end


def _loss(weights: csr_array, users: Matrix, items: Matrix, params: ALSParams) -> float:
    all_cells = float(((users.T @ users).astype(np.float64) * (items.T @ items)).sum())
    total = all_cells + params.regularization * sum(float(np.square(side).sum()) for side in (users, items))
    step = max(1, BLOCK_CELLS // users.shape[1])
    rows = np.repeat(np.arange(len(users)), np.diff(weights.indptr))
    for start in range(0, weights.nnz, step):
        block = slice(start, start + step)
        predicted = np.einsum("pk,pk->p", users[rows[block]], items[weights.indices[block]])
        confidence = 1 + np.float32(params.alpha) * weights.data[block]
        total += float((confidence * np.square(1 - predicted) - np.square(predicted)).sum(dtype=np.float64))
    return total


als = ALS(n_components=64, max_iter=15)
