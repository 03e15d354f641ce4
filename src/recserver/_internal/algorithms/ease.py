"""EASE: a linear item-item model in closed form (Steck 2019), for catalogues whose square fits in memory.

``B = argmin |X - X B|^2 + regularization |B|^2`` with a zero diagonal: with ``P = (X'X + regularization I)^-1``,
``B_ij = -P_ij / P_jj``. Of each item only the weights of the largest magnitude remain.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from recserver._internal.algorithms.base import BaseAlgorithm, Feedback, Params, Real
from recserver._internal.algorithms.interactions import Interactions, to_indptr
from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.algorithms.protocol import FitContext, FittedModel, HyperParams
from recserver._internal.core.errors import TrainingFailed
from recserver._internal.core.validation.values import WholeNumber

MAX_ITEMS = 20_000
"""The fit uses 8 bytes per pair of items, and 16 at its peak: 3.2 GB and 6.4 GB."""

BLOCK = 256
"""Rows or columns that are processed at once."""

Square = np.ndarray[Any, np.dtype[np.float32]]


class EASEParams(Params):
    """Hyperparameters of ease."""

    regularization: Annotated[Real, Field(gt=0, le=1e9)] = 300.0
    neighbors: Annotated[WholeNumber, Field(ge=1, le=MAX_ITEMS)] = 500
    feedback: Feedback = "auto"


class EASE(BaseAlgorithm[EASEParams]):
    """Item-item weights of any sign, with no factors."""

    model_type = "ease"
    model_class = "EASERecommendationModel"
    params = EASEParams
    description = "A linear item-item model in closed form, without factors."
    use_case = "Often the most accurate up to 20,000 items; memory grows with their square, time with their cube."

    def fit(self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext) -> FittedModel:
        from recserver._internal.algorithms.preprocessing import weight_matrix

        params, warnings = self.resolve(hyperparameters), list[str]()
        n_items = len(interactions.items)
        if n_items > MAX_ITEMS:
            raise TrainingFailed(
                f"ease needs memory for the square of the catalogue and supports at most {MAX_ITEMS} items, not "
                f"{n_items}: use nmf, which learns such weights for similar items only."
            )
        matrix, weighting = weight_matrix(interactions, warnings, params.feedback)
        products = (matrix.T @ matrix).toarray()
        products[np.diag_indices(n_items)] += np.float32(params.regularization)
        weights = _invert_in_place(products)
        weights /= -np.diag(weights)
        np.fill_diagonal(weights, 0)
        neighbors = keep_largest(weights, params.neighbors, matrix.data)
        return FittedModel.from_neighbors(neighbors, interactions, params.model_dump(), warnings, weighting)


def _invert_in_place(products: Square) -> Square:
    """The inverse of a symmetric positive definite matrix, in the memory of the matrix.

    BLAS uses one thread, because more would round differently. By Cholesky decomposition this takes about as long
    as a general inverse with two threads.
    """
    from scipy.linalg.lapack import spotrf, spotri
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        ordered = (
            products if products.flags.f_contiguous else products.T
        )  # LAPACK copies arrays in row-major order
        factor, failed = spotrf(ordered, lower=1, clean=0, overwrite_a=1)
        if not failed:
            factor, failed = spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise TrainingFailed("The items are too similar to compute their weights: increase regularization.")
    inverse: Square = factor.T  # only the upper triangle is set
    for start in range(0, len(inverse), BLOCK):
        block = slice(start, start + BLOCK)
        inverse[block, :start] = inverse[:start, block].T
        square = inverse[block, block]
        square[:] = np.triu(square) + np.triu(square, 1).T
    return inverse


def keep_largest(weights: Square, n: int, confidences: Any) -> ItemItemWeights:
    """The ``n`` weights of the largest magnitude of each column. The others are set to 0 in ``weights``."""
    if n < len(weights):
        for start in range(0, len(weights), BLOCK):
            block = weights[:, start : start + BLOCK]
            magnitudes = np.abs(block)
            block[magnitudes < np.partition(magnitudes, -n, axis=0)[-n]] = 0
    nonzero = weights != 0
    return ItemItemWeights(
        indptr=to_indptr(np.count_nonzero(nonzero, axis=1)),
        indices=np.nonzero(nonzero)[1].astype(np.int32),
        weights=weights[nonzero],
        confidences=confidences,
    )


ease = EASE(regularization=300.0)
