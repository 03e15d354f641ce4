"""Fold-in: the factors of somebody who was not in a training, from what they interacted with.

The item factors stand still, and the user's are solved for by the objective that the training had. For all of
nmf, svd and als that is a small linear system: with ``t = sum over own items j of c_j h_j``,

* nmf: ``argmin over w >= 0 of w (G + l2) w' / 2 - (t - l1) w'``, G the Gram matrix of the item factors;
* svd: the same without the bound and penalties, where G is the identity;
* als: ``w = (G + l2 + sum of a b_j h_j h_j')^-1 t`` (Hu, Koren and Volinsky 2008).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]
Matrix = NDArray[np.floating[Any]]

Feedback = Literal["implicit", "weighted", "ratings"]

MAX_FULL_EXCHANGES = 3
"""Of all that is wrong at once, without getting fewer wrong ones, before coordinates are added one by one."""

MAX_EXCHANGES = 1000
"""A handful is usual; only rounding could let them go on for ever."""

MAX_EXPONENT = 0.5
MAX_NUMBER, MIN_MEAN_LOG = 1e38, 1e-45
"""Of what a model file says: beyond, powers and products would leave the range of double precision."""

RIDGE = 1e-7
"""Share of the Gram matrix's mean diagonal that is added to it: components that are zero have no inverse."""


@dataclass(frozen=True, slots=True)
class Weighting:
    """What a rating is worth.

    Attributes:
        feedback: ``implicit``: 1 if it is positive; ``weighted``: ``log(1 + rating) / mean_log``; ``ratings``: as
            much as it says. Negative ones are worth 0.
        mean_log: of the positive ratings of a training, so that they are worth 1 on average.
    """

    feedback: Feedback = "implicit"
    mean_log: float = 1.0

    def weights(self, ratings: NDArray[Any]) -> NDArray[Any]:
        """Of each rating, in an array of the same type."""
        worth: NDArray[Any]
        positive = np.maximum(ratings, ratings.dtype.type(0))
        if self.feedback == "ratings":
            worth = positive
        elif self.feedback == "implicit":
            worth = positive > 0
        else:
            worth = np.log1p(positive) / np.float64(self.mean_log)
        return worth.astype(ratings.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class FoldIn:
    """How a user's factors follow from interactions.

    Attributes:
        worth: what each interaction is worth by its rating.
        exponent: e in ``strength = worth * (sum of the user's worths)^-e``.
        inputs: float32, shape (items,): by which the item factors of the model file are multiplied where a user's
            strength speaks through them. (They are scaled for scoring there.)
        gram: float32, shape (k, k): G.
        nonnegative: whether factors are.
        l2, l1: penalties.
        confidence: a of als; 0 for the others.
    """

    input_scale: NDArray[np.float32]
    gram: NDArray[np.float32]
    weighting: Weighting
    exponent: float = 0.0
    nonnegative: bool = False
    l2: float = 0.0
    l1: float = 0.0
    alpha: float = 0.0
    _system: Matrix = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        system = self.gram.astype(np.float64)
        system[np.diag_indices(len(system))] += self.l2 + RIDGE * (np.trace(system) / max(1, len(system)) or 1.0)
        object.__setattr__(self, "_system", system)

    @classmethod
    def from_header(cls, header: object, inputs: NDArray[Any], gram: NDArray[Any]) -> Self:
        """What a model file says in :meth:`header` and two arrays.

        Raises:
            ValueError: if it is not of that kind.
        """
        if not isinstance(header, Mapping) or inputs.ndim != 1 or gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
            raise ValueError("it is of another kind")
        if inputs.dtype != np.float32 or gram.dtype != np.float32:
            raise ValueError("its numbers are of another kind")
        numbers: dict[str, float] = {}
        for name in ("mean_log", "exponent", "l2", "l1", "confidence"):
            number: Any = header.get(name)
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            least = MIN_MEAN_LOG if name == "mean_log" else 0
            if not is_number or not least <= number <= (MAX_EXPONENT if name == "exponent" else MAX_NUMBER):
                raise ValueError(f"{name} is out of range")
            numbers[name] = float(number)
        if header.get("feedback") not in get_args(Feedback) or type(header.get("nonnegative")) is not bool:
            raise ValueError("what ratings are worth is missing")
        worth = Weighting(header["feedback"], numbers.pop("mean_log"))
        alpha = numbers.pop("confidence")
        return cls(inputs, gram, worth, nonnegative=header["nonnegative"], alpha=alpha, **numbers)

    @classmethod
    def without_factors(cls, weighting: Weighting, n_items: int) -> Self:
        """Where a model has neighbours only: interactions speak by what they are worth."""
        return cls(np.ones(n_items, np.float32), np.zeros((0, 0), np.float32), weighting)

    def header(self) -> dict[str, str | float | bool]:
        """What a model file says of it beside ``inputs`` and ``gram``."""
        return {
            "feedback": self.weighting.feedback,
            "mean_log": float(self.weighting.mean_log),
            "exponent": float(self.exponent),
            "nonnegative": self.nonnegative,
            "l2": float(self.l2),
            "l1": float(self.l1),
            "confidence": float(self.alpha),
        }

    def fits(self, shape: tuple[int, int]) -> bool:
        """Whether it belongs to item factors of a shape, (k, items)."""
        return self.gram.shape == (shape[0], shape[0]) and self.input_scale.shape == (shape[1],)

    def confidences(self, weights: Vector) -> Vector:
        """How much each of somebody's interactions speaks."""
        strengths: Vector = weights * _positive_sum(weights) ** -self.exponent
        return strengths

    def weights_of(self, confidences: Vector) -> Vector:
        """The inverse of :meth:`strengths`, in double precision."""
        total = _positive_sum(confidences) ** (1 / (1 - self.exponent))
        worth: Vector = confidences.astype(np.float64) * total**self.exponent
        return worth

    def solve(self, own_factors: Matrix, indices: NDArray[np.int32], weights: Vector) -> Vector:
        """The factors of somebody, shape (k,).

        Args:
            own: their items' factors as in the model file, shape (k, interactions).
            places: which items these are.
            worth: of each interaction.
        """
        system, spoken = self._equations(own_factors, indices, weights)
        target = spoken.sum(axis=1) - self.l1
        return _solve_nonnegative(system, target) if self.nonnegative else _solve(system, target)

    def shares(self, factors: Vector, own_factors: Matrix, indices: NDArray[np.int32], weights: Vector) -> Matrix:
        """What of somebody's factors each of their interactions accounts for, shape (k, interactions).

        They add up to the factors exactly. Solved factors are linear in the interactions, but for l1; that, and
        what a training left unsolved, goes to all interactions by their worth.
        """
        system, spoken = self._equations(own_factors, indices, weights)
        active = np.flatnonzero(factors)
        shares = np.zeros(spoken.shape)
        shares[active] = _solve(system[np.ix_(active, active)], spoken[active])
        return shares + np.outer(factors - shares.sum(axis=1), weights / _positive_sum(weights))

    def _equations(
        self, own_factors: Matrix, indices: NDArray[np.int32], weights: Vector
    ) -> tuple[Matrix, Matrix]:
        """The system's matrix, shape (k, k), and each interaction's part of its right side, (k, interactions)."""
        if not self.alpha:
            return self._system, own_factors * (self.confidences(weights) * self.input_scale[indices])
        extra = self.alpha * weights
        return self._system + (own_factors * extra) @ own_factors.T, own_factors * np.where(
            weights > 0, 1 + extra, 0.0
        )


def _positive_sum(numbers: Vector) -> float:
    """Their sum, 1 if it is not positive."""
    total = float(numbers.sum(dtype=np.float64))
    return total if total > 0 else 1.0


def _solve(system: Matrix, target: Matrix) -> Matrix:
    try:
        return np.linalg.solve(system, target)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(system, target)[0]


def _solve_nonnegative(system: Matrix, target: Vector) -> Vector:
    """``argmin over w >= 0 of w system w' / 2 - target w'``, by block principal pivoting (Kim and Park 2011).

    Args:
        system: symmetric positive definite, shape (k, k).
        target: shape (k,).
    """
    count = len(target)
    tolerance = 1e-10 * float(np.abs(target).max(initial=0.0))
    positive = target > 0.5 * target.max(initial=0.0)
    fewest, spare = count + 1, MAX_FULL_EXCHANGES
    while spare:
        found = np.zeros(count)
        active = np.flatnonzero(positive)
        found[active] = _solve(system[np.ix_(active, active)], target[active])
        slope = system @ found - target
        wrong = np.flatnonzero(np.where(positive, found < 0, slope < -tolerance))
        if not len(wrong):
            return found
        if len(wrong) < fewest:
            fewest, spare = len(wrong), MAX_FULL_EXCHANGES
        else:
            spare -= 1
        positive[wrong] ^= True
    return _active_set(system, target, tolerance)


def _active_set(system: Matrix, target: Vector, tolerance: float) -> Vector:
    """As :func:`_nonnegative`, by an active set (Lawson and Hanson 1974): every step lowers what is minimised.

    That takes more steps, but also ends where components can hardly be told apart.
    """
    found, positive, best = np.zeros(len(target)), np.zeros(len(target), np.bool_), -1
    for _ in range(MAX_EXCHANGES):
        active = np.flatnonzero(positive)
        wanted = _solve(system[np.ix_(active, active)], target[active])
        below = np.flatnonzero(wanted <= 0)
        if len(below):
            now = found[active]
            shares = now[below] / np.maximum(now[below] - wanted[below], np.finfo(np.float64).tiny)
            now += shares.min() * (wanted - now)
            now[below[shares <= shares.min()]] = 0
            found[active] = np.maximum(now, 0)
            positive = found > 0
            if positive[best]:
                continue
            break  # what it would have gained was rounding
        found[active] = wanted
        gain = np.where(positive, -np.inf, target - system @ found)
        best = int(gain.argmax())
        if gain[best] <= tolerance:
            break
        positive[best] = True
    return found
