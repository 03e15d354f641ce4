"""EASE: the linear model in closed form (Steck 2019), for catalogues whose square fits in memory.

``B = argmin |X - X B|^2 + regularization |B|^2`` with a zero diagonal: with ``P = (X'X + regularization I)^-1``,
``B_ij = -P_ij / P_jj``. Of each item only the largest weights are kept, by magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from recserver.algorithms.base import BaseAlgorithm, Feedback, Params, Real
from recserver.algorithms.fold_in import FoldIn
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.neighbors import ItemItemWeights
from recserver.algorithms.protocol import FitContext, FittedModel
from recserver.core.errors import TrainingFailed
from recserver.core.validation.values import WholeNumber

MAX_ITEMS = 20_000
"""The fit takes 8 bytes for each pair of items, twice over for a moment: 3.2 GB and 6.4 GB."""

BLOCK = 256
"""Rows or columns that are rearranged together."""

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

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        from recserver.algorithms.preprocessing import weight_matrix

        params, notes = self.resolve(hyperparameters), list[str]()
        n_items = len(interactions.items)
        if n_items > MAX_ITEMS:
            raise TrainingFailed(
                f"ease needs memory for the square of the catalogue and takes at most {MAX_ITEMS} items, not "
                f"{n_items}: use nmf, whose neighbours do the same for the items that are alike."
            )
        matrix, rule = weight_matrix(interactions, notes, params.feedback)
        products = (matrix.T @ matrix).toarray()
        products[np.diag_indices(n_items)] += np.float32(params.regularization)
        weights = _invert_in_place(products)
        weights /= -np.diag(weights)
        np.fill_diagonal(weights, 0)
        neighbors = keep_largest(weights, params.neighbors, matrix.data)
        fold_in = FoldIn.without_factors(rule, n_items)
        return FittedModel.from_neighbors(neighbors, len(interactions.users), params.model_dump(), notes, fold_in)


def _invert_in_place(products: Square) -> Square:
    """The inverse of a symmetric positive definite matrix, in its place.

    By one thread: more would round otherwise, and by way of Cholesky one takes about as long as two do without.
    """
    from scipy.linalg.lapack import spotrf, spotri
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        ordered = products if products.flags.f_contiguous else products.T  # columns first, or LAPACK copies
        factor, failed = spotrf(ordered, lower=1, clean=0, overwrite_a=1)
        if not failed:
            factor, failed = spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise TrainingFailed("The items are too much alike to tell their weights apart: raise regularization.")
    inverse: Square = factor.T  # only what is above the diagonal holds it
    for start in range(0, len(inverse), BLOCK):
        own = slice(start, start + BLOCK)
        inverse[own, :start] = inverse[:start, own].T
        square = inverse[own, own]
        square[:] = np.triu(square) + np.triu(square, 1).T
    return inverse


def keep_largest(weights: Square, n: int, confidences: Any) -> ItemItemWeights:
    """Of each column the ``n`` weights of the largest magnitude. ``weights`` lose the others."""
    if n < len(weights):
        for start in range(0, len(weights), BLOCK):
            some = weights[:, start : start + BLOCK]
            magnitudes = np.abs(some)
            some[magnitudes < np.partition(magnitudes, -n, axis=0)[-n]] = 0
    kept = weights != 0
    lengths = np.count_nonzero(kept, axis=1)
    return ItemItemWeights(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        indices=np.nonzero(kept)[1].astype(np.int32),
        weights=weights[kept],
        confidences=confidences,
    )


ease = EASE(regularization=300.0)
