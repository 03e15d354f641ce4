"""From interactions to the matrices that are fitted: what a pair is worth, and how degrees are evened out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recserver.algorithms.base import Feedback, Params
from recserver.algorithms.fold_in import FoldIn, Weighting
from recserver.algorithms.interactions import Interactions
from recserver.core.errors import TrainingFailed

Vector = NDArray[np.float32]
ParamsT = TypeVar("ParamsT", bound=Params)

MAX_RATING = 1e12
"""Where ratings are taken as they are: sums of their squares, and those of factors, stay within float32."""
DEGREE_EXPONENT = 0.3
"""By which degrees are evened out: 0.5 is a little worse nearly everywhere, 0 a good deal."""


@dataclass(frozen=True, slots=True)
class InputMatrices:
    """One set of interactions in three weightings; D is the diagonal of degrees, B what pairs are worth.

    Attributes:
        factored: ``D_users^-e B D_items^-e``, float32, shape (users, items): what factors approximate.
        strengths: ``D_users^-e B``: what a recommendation foretells, and what neighbors speak from.
        worth: B, divided by the root mean square of what pairs are worth, those that are worth nothing left out.
        item_scale: ``D_items^e``, shape (items,): from a score of the first to one of the second.
        rule: what a rating is worth in B.
        ridge_unit: a ridge on item weights that learn from ``worth`` is given in multiples of it:
            ``|B|^2 / |D_users^-e B|^2``.
    """

    normalised: csr_array
    confidences: csr_array
    weights: csr_array
    item_scale: Vector
    weighting: Weighting
    ridge_unit: float

    def fold_in(
        self, *, exponent: float, items: Vector, scale: Vector, share: float = 1.0, **solved: Any
    ) -> FoldIn:
        """How factors follow from interactions, for a fit of ``factored`` to item factors of shape (items, k).

        Args:
            exponent: e.
            items: as fitted, float32.
            scale: by which they were multiplied after the fit, ``share`` times ``item_scale``.
            solved: ``nonnegative``, ``l2``, ``l1``.
        """
        inputs = share / np.square(np.where(scale > 0, scale, np.float32(1)))
        return FoldIn(inputs.astype(np.float32), items.T @ items, self.weighting, exponent=exponent, **solved)


def input_matrices(
    interactions: Interactions,
    warnings: list[str],
    *,
    feedback: Feedback,
    exponent: float,
) -> InputMatrices:
    """What to fit.

    Args:
        notes: gets a sentence for what could not be used.
        feedback: ``implicit``: every pair counts 1; ``weighted``: ``log(1 + rating)``, 1 on average; ``auto``:
            weighted where the data chef weighs rows, else implicit. With ``exponent`` 0, ``auto`` takes the
            ratings as they are.
        exponent: e.

    Raises:
        TrainingFailed: if no rating is positive.
    """
    positive = _clip_negative(interactions, warnings)
    rule = _weighting(positive, feedback, raw_ratings=not exponent, weighted=interactions.weighted)
    worth = rule.weights(positive)
    shape = len(interactions.users), len(interactions.items)
    index = np.int32 if interactions.n_pairs < 2**31 else np.int64
    indptr, indices = interactions.indptr.astype(index), interactions.indices
    rows = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(indptr))
    users, items = (_degrees(of, worth, n) for of, n in zip((rows, indices), shape, strict=True))
    strengths = worth * (users**-exponent).astype(np.float32)[rows]
    square = float(np.square(worth, dtype=np.float64).sum())
    even = worth * (np.count_nonzero(worth) / square) ** 0.5
    factored = strengths * (items**-exponent).astype(np.float32)[indices]
    return InputMatrices(
        csr_array((factored, indices, indptr), shape=shape),
        csr_array((strengths, indices, indptr), shape=shape),
        csr_array((even.astype(np.float32), indices, indptr), shape=shape),
        (items**exponent).astype(np.float32),
        rule,
        square / float(np.square(strengths, dtype=np.float64).sum()),
    )


def weight_matrix(
    interactions: Interactions, warnings: list[str], feedback: Feedback
) -> tuple[csr_array, Weighting]:
    """What each pair is worth, shape (users, items), not evened out; see :func:`matrices`. And the rule for it."""
    positive = _clip_negative(interactions, warnings)
    rule = _weighting(positive, feedback, raw_ratings=False, weighted=interactions.weighted)
    shape = len(interactions.users), len(interactions.items)
    return csr_array((rule.weights(positive), interactions.indices, interactions.indptr), shape=shape), rule


def clamp_rank(params: ParamsT, interactions: Interactions, warnings: list[str], margin: int = 0) -> ParamsT:
    """``params`` with as many ``n_components`` as the data allow, less ``fewer`` but at least 1."""
    asked: int = getattr(params, "n_components")  # noqa: B009 - every Params of a factorisation has it
    users, items = len(interactions.users), len(interactions.items)
    rank = max(1, min(asked, min(users, items) - margin))
    if rank == asked:
        return params
    warnings.append(
        f"n_components was lowered from {asked} to {rank}: {users} users and {items} items allow no more."
    )
    return params.model_copy(update={"n_components": rank})


def _clip_negative(interactions: Interactions, warnings: list[str]) -> Vector:
    negative = int((interactions.ratings < 0).sum())
    if negative:
        warnings.append(f"{negative} negative ratings count as 0: no algorithm here knows dislike.")
    positive = np.maximum(interactions.ratings, np.float32(0))
    if not positive.any():
        raise TrainingFailed(
            "Every rating is zero or negative, so there is nothing to learn from: check which column is the "
            "rating, or leave it out to count each interaction as 1."
        )
    return positive


def _weighting(ratings: Vector, feedback: Feedback, *, raw_ratings: bool, weighted: bool) -> Weighting:
    if feedback == "auto":
        if raw_ratings:
            _check_rating_range(ratings)
            return Weighting("ratings")
        feedback = "weighted" if weighted else "implicit"
    if feedback == "implicit":
        return Weighting("implicit")
    return Weighting("weighted", float(np.log1p(ratings[ratings > 0]).mean(dtype=np.float64)))


def _check_rating_range(ratings: Vector) -> None:
    largest = float(ratings.max())
    if largest > MAX_RATING:
        raise TrainingFailed(
            f"The largest rating is {largest:g}, and beyond {MAX_RATING:g} nothing can be computed with "
            'ratings as they are: divide them, or take feedback "weighted" or weighting "degree".'
        )


def _degrees(of: NDArray[np.int32], weights: Vector, n: int) -> NDArray[np.float64]:
    """Sums of worth, shape (n,); 1 for whoever has none."""
    sums = np.bincount(of, weights, minlength=n)
    return np.where(sums > 0, sums, 1.0)
