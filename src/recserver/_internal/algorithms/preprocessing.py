"""From interactions to the matrices that are fitted: weights of pairs, and normalisation by degree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recserver._internal.algorithms.base import Feedback, Params
from recserver._internal.algorithms.fold_in import FoldIn, Weighting
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.core.errors import TrainingFailed

Vector = NDArray[np.float32]
ParamsT = TypeVar("ParamsT", bound=Params)

MAX_RATING = 1e12
"""Of raw ratings: up to here sums of their squares, and those of factors, stay within float32."""
DEGREE_EXPONENT = 0.3
"""For normalisation by degree: 0.5 is slightly worse on most data, 0 considerably worse."""


@dataclass(frozen=True, slots=True)
class InputMatrices:
    """The same interactions as three matrices of shape (users, items).

    B has the weights of the pairs, D_users and D_items are the diagonal matrices of its row and column sums, and e
    is the exponent of the normalisation.

    Attributes:
        normalised: ``D_users^-e B D_items^-e``, float32: what the factors approximate.
        confidences: ``D_users^-e B``: what scores predict, and the input of the neighbours.
        weights: B, divided by the root mean square of its positive entries.
        item_scale: ``D_items^e``, shape (items,): the factor from a score of ``normalised`` to one of
            ``confidences``.
        weighting: how ratings become weights.
        ridge_unit: the unit of a ridge on item weights that are learned from ``weights``:
            ``|B|^2 / |D_users^-e B|^2``.
        exponent: e.
    """

    normalised: csr_array
    confidences: csr_array
    weights: csr_array
    item_scale: Vector
    weighting: Weighting
    ridge_unit: float
    exponent: float

    def fold_in(self, items: Vector, share: float = 1.0, **options: Any) -> FoldIn:
        """The fold-in of a factorisation of ``normalised``.

        Args:
            items: the item factors as fitted, float32, shape (items, k).
            share: after the fit they were multiplied by ``share`` times ``item_scale``.
            options: ``nonnegative``, ``l2`` and ``l1`` of :class:`FoldIn`.
        """
        scale = self.item_scale * np.float32(share)
        inputs = share / np.square(np.where(scale > 0, scale, np.float32(1)))
        return FoldIn(inputs.astype(np.float32), items.T @ items, self.weighting, self.exponent, **options)


def input_matrices(
    interactions: Interactions, warnings: list[str], feedback: Feedback, normalisation: Literal["degree", "none"]
) -> InputMatrices:
    """The matrices to fit.

    Args:
        warnings: a sentence is appended if some ratings could not be used.
        feedback: ``implicit``: every pair has weight 1; ``weighted``: ``log(1 + rating)``, scaled to mean 1;
            ``auto``: raw ratings without normalisation, else weighted if the data chef weights rows, or implicit.
        normalisation: whether to normalise by degree.

    Raises:
        TrainingFailed: if no rating is positive, or raw ratings are too large.
    """
    by_degree = normalisation == "degree"
    exponent = DEGREE_EXPONENT if by_degree else 0.0
    matrix, weighting = weight_matrix(interactions, warnings, feedback, raw_ratings=not by_degree)
    weights, indices, indptr, shape = matrix.data, matrix.indices, matrix.indptr, matrix.shape
    rows = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(indptr))
    users, items = (_degrees(index, weights, n) for index, n in zip((rows, indices), shape, strict=True))
    confidences = weights * (users**-exponent).astype(np.float32)[rows]
    normalised = confidences * (items**-exponent).astype(np.float32)[indices]
    squares = float(np.square(weights, dtype=np.float64).sum())
    scaled = weights * (np.count_nonzero(weights) / squares) ** 0.5
    return InputMatrices(
        csr_array((normalised, indices, indptr), shape=shape),
        csr_array((confidences, indices, indptr), shape=shape),
        csr_array((scaled.astype(np.float32), indices, indptr), shape=shape),
        (items**exponent).astype(np.float32),
        weighting,
        squares / float(np.square(confidences, dtype=np.float64).sum()),
        exponent,
    )


def weight_matrix(
    interactions: Interactions, warnings: list[str], feedback: Feedback, *, raw_ratings: bool = False
) -> tuple[csr_array, Weighting]:
    """The weights of pairs, float32, shape (users, items), and the rule they follow; see :func:`input_matrices`.

    Args:
        raw_ratings: whether feedback ``auto`` uses the raw ratings.
    """
    ratings = _clip_negative(interactions, warnings)
    if feedback == "auto" and raw_ratings:
        _check_rating_range(ratings)
        weighting = Weighting("ratings")
    elif feedback == "weighted" or (feedback == "auto" and interactions.weighted):
        weighting = Weighting("weighted", float(np.log1p(ratings[ratings > 0]).mean(dtype=np.float64)))
    else:
        weighting = Weighting("implicit")
    shape = len(interactions.users), len(interactions.items)
    parts = weighting.weights(ratings), interactions.indices, interactions.indptr
    return csr_array(parts, shape=shape), weighting


def clamp_rank(params: ParamsT, interactions: Interactions, warnings: list[str], margin: int = 0) -> ParamsT:
    """``params`` with ``n_components`` reduced to the matrix's smaller side less ``margin``, but at least 1."""
    requested: int = getattr(params, "n_components")  # noqa: B009 - all Params of factorisations have it
    users, items = len(interactions.users), len(interactions.items)
    rank = max(1, min(requested, min(users, items) - margin))
    if rank == requested:
        return params
    warnings.append(
        f"n_components was lowered from {requested} to {rank}, the maximum for {users} users and {items} items."
    )
    return params.model_copy(update={"n_components": rank})


def _clip_negative(interactions: Interactions, warnings: list[str]) -> Vector:
    negative = int((interactions.ratings < 0).sum())
    if negative:
        warnings.append(f"{negative} negative ratings count as 0: the algorithm does not learn from dislikes.")
    ratings = np.maximum(interactions.ratings, np.float32(0))
    if not ratings.any():
        raise TrainingFailed(
            "Every rating is zero or negative, so there is nothing to learn from: check which column is the "
            "rating, or leave it out to count each interaction as 1."
        )
    return ratings


def _check_rating_range(ratings: Vector) -> None:
    largest = float(ratings.max())
    if largest > MAX_RATING:
        raise TrainingFailed(
            f"The largest rating is {largest:g}, and raw ratings may be at most {MAX_RATING:g}: divide them, or "
            'use feedback "weighted" or weighting "degree".'
        )


def _degrees(indices: NDArray[np.int32], weights: Vector, n: int) -> NDArray[np.float64]:
    """The sums of the weights of each of ``n`` users or items, shape (n,); 1 instead of 0."""
    sums = np.bincount(indices, weights, minlength=n)
    return np.where(sums > 0, sums, 1.0)
