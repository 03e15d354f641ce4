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
from recserver.algorithms.neighbors import Neighbors
from recserver.algorithms.protocol import Factors, Surroundings
from recserver.core.errors import TrainingFailed
from recserver.core.validation.values import WholeNumber

MOST_ITEMS = 20_000
"""The fit takes 8 bytes for each pair of items, twice over for a moment: 3.2 GB and 6.4 GB."""

BLOCK = 256
"""Rows or columns that are rearranged together."""

Square = np.ndarray[Any, np.dtype[np.float32]]


class EASEParams(Params):
    """Hyperparameters of ease."""

    regularization: Annotated[Real, Field(gt=0, le=1e9)] = 300.0
    neighbors: Annotated[WholeNumber, Field(ge=1, le=MOST_ITEMS)] = 500
    feedback: Feedback = "auto"


class EASE(BaseAlgorithm[EASEParams]):
    """Item-item weights of any sign, with no factors."""

    model_type = "ease"
    model_class = "EASERecommendationModel"
    params = EASEParams

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: Surroundings
    ) -> Factors:
        from recserver.algorithms.preprocessing import worth_matrix

        params, notes = self.used(hyperparameters), list[str]()
        n_items = len(interactions.items)
        if n_items > MOST_ITEMS:
            raise TrainingFailed(
                f"ease needs memory for the square of the catalogue and takes at most {MOST_ITEMS} items, not "
                f"{n_items}: use nmf, whose neighbours do the same for the items that are alike."
            )
        matrix, rule = worth_matrix(interactions, notes, params.feedback)
        products = (matrix.T @ matrix).toarray()
        products[np.diag_indices(n_items)] += np.float32(params.regularization)
        weights = _inverse(products)
        weights /= -np.diag(weights)
        np.fill_diagonal(weights, 0)
        neighbors = strongest(weights, params.neighbors, matrix.data)
        fold_in = FoldIn.without_factors(rule, n_items)
        return Factors.of_neighbors(neighbors, len(interactions.users), params.model_dump(), notes, fold_in)


def _inverse(products: Square) -> Square:
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


def strongest(weights: Square, n: int, strengths: Any) -> Neighbors:
    """Of each column the ``n`` weights of the largest magnitude. ``weights`` lose the others."""
    if n < len(weights):
        for start in range(0, len(weights), BLOCK):
            some = weights[:, start : start + BLOCK]
            magnitudes = np.abs(some)
            some[magnitudes < np.partition(magnitudes, -n, axis=0)[-n]] = 0
    kept = weights != 0
    lengths = np.count_nonzero(kept, axis=1)
    return Neighbors(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        indices=np.nonzero(kept)[1].astype(np.int32),
        weights=weights[kept],
        strengths=strengths,
    )


ease = EASE(regularization=300.0)
