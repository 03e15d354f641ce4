"""Alternating least squares for implicit feedback (Hu, Koren and Volinsky 2008), exact in every step.

Objective: ``sum over all u, i of c_ui (p_ui - w_u . h_i)^2 + regularization (|W|^2 + |H|^2)`` with p = 1 and
``c = 1 + alpha b`` for pairs that occur, b being what they are worth, and p = 0, c = 1 for all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recserver.algorithms.base import BaseAlgorithm, Feedback, Params, RandomState, Real
from recserver.algorithms.fold_in import FoldIn
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.protocol import FitContext, FittedModel
from recserver.core.validation.values import WholeNumber

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Matrix = NDArray[np.float32]

BLOCK_CELLS = 2**21
"""Numbers of the gathered factors, and of the systems, that are in memory together: 8 MiB each, or one row's."""

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

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        from threadpoolctl import threadpool_limits

        from recserver.algorithms.preprocessing import clamp_rank, weight_matrix

        params, notes = self.resolve(hyperparameters), list[str]()
        params = clamp_rank(params, interactions, notes)
        worth, rule = weight_matrix(interactions, notes, params.feedback)
        turned = worth.T.tocsr()
        random = np.random.default_rng(params.random_state)
        users, items = (
            random.standard_normal((n, params.n_components), np.float32) * np.float32(0.01) for n in worth.shape
        )
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(context.threads) as pool:
            for iteration in range(1, params.max_iter + 1):
                _solve(worth, users, items, params, pool)
                _solve(turned, items, users, params, pool)
                context.on_iteration(iteration, params.max_iter, _loss(worth, users, items, params))
        metrics = {"n_components": params.n_components}
        fold_in = FoldIn(
            np.ones(len(items), np.float32),
            items.T @ items,
            rule,
            l2=params.regularization + MIN_RIDGE,
            alpha=params.alpha,
        )
        return FittedModel(
            users, items, params.model_dump(), metrics, tuple(notes), fold_in=fold_in, confidences=worth.data
        )


def _solve(
    weights: csr_array, factors: Matrix, fixed: Matrix, params: ALSParams, pool: ThreadPoolExecutor
) -> None:
    """Set each row of ``factors`` to the best one for ``fixed``."""
    k = factors.shape[1]
    common = fixed.T @ fixed
    common[np.diag_indices(k)] += np.float32(params.regularization + MIN_RIDGE)
    lengths = np.diff(weights.indptr)

    def one(rows: NDArray[np.intp]) -> None:
        width = max(1, int(lengths[rows].max()))
        places = weights.indptr[rows][:, None] + np.arange(width)
        there = np.arange(width) < lengths[rows][:, None]
        places = np.where(there, places, 0)
        own = np.where(there, weights.data[places], 0) * np.float32(params.alpha)
        gathered = fixed[weights.indices[places]]
        systems = common + (gathered * own[:, :, None]).transpose(0, 2, 1) @ gathered
        right = np.einsum("rl,rlk->rk", np.where(own > 0, 1 + own, 0), gathered)
        factors[rows] = np.linalg.solve(systems, right[:, :, None])[:, :, 0]

    for _ in pool.map(one, _blocks(lengths, k)):
        pass


def _blocks(lengths: NDArray[np.int64], k: int) -> Iterator[NDArray[np.intp]]:
    """Rows of about the same length together, so many that what is gathered for them is of bounded size."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = min(len(order), start + max(1, BLOCK_CELLS // k**2))
        while end - start > 1 and int(lengths[order[end - 1]]) * k * (end - start) > BLOCK_CELLS:
            end = start + (end - start) // 2
        yield order[start:end]
        start = end


def _loss(weights: csr_array, users: Matrix, items: Matrix, params: ALSParams) -> float:
    everywhere = float(((users.T @ users).astype(np.float64) * (items.T @ items)).sum())
    total = everywhere + params.regularization * sum(float(np.square(one).sum()) for one in (users, items))
    step = max(1, BLOCK_CELLS // users.shape[1])
    rows = np.repeat(np.arange(len(users)), np.diff(weights.indptr))
    for start in range(0, weights.nnz, step):
        some = slice(start, start + step)
        foretold = np.einsum("pk,pk->p", users[rows[some]], items[weights.indices[some]])
        confidence = 1 + np.float32(params.alpha) * weights.data[some]
        total += float((confidence * np.square(1 - foretold) - np.square(foretold)).sum(dtype=np.float64))
    return total


als = ALS(n_components=64, max_iter=15)
