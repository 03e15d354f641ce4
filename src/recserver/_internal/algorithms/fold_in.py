"""Fold-in: the factors of a user who was not in the training, from the user's interactions.

The item factors h_j are fixed, and the user's factors w minimise the training's objective. For nmf, svd and als
that is a small linear system: with ``t = sum over the user's items j of c_j h_j``,

* nmf: ``argmin over w >= 0 of w (G + l2) w' / 2 - (t - l1) w'``, G the Gram matrix of the item factors;
* svd: the same without bound and penalties, where G is the identity;
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
"""Exchanges of all infeasible coordinates without fewer infeasible ones, before the active-set method is used."""

MAX_EXCHANGES = 1000
"""A limit for the active-set method, which needs a few steps unless rounding makes it cycle."""

MAX_EXPONENT = 0.5
MAX_NUMBER, MIN_MEAN_LOG = 1e38, 1e-45
"""Limits of a model file's numbers: beyond them powers and products leave the range of double precision."""

RIDGE = 1e-7
"""The share of the Gram matrix's mean diagonal that is added to its diagonal, so that it is not singular."""


@dataclass(frozen=True, slots=True)
class Weighting:
    """The weight of an interaction by its rating.

    Attributes:
        feedback: ``implicit``: 1 if the rating is positive; ``weighted``: ``log(1 + rating) / mean_log``;
            ``ratings``: the rating. Negative ratings have weight 0.
        mean_log: the mean of ``log(1 + rating)`` of the training's positive ratings: their mean weight is 1.
    """

    feedback: Feedback = "implicit"
    mean_log: float = 1.0

    def weights(self, ratings: NDArray[Any]) -> NDArray[Any]:
        """The weight of each rating, in an array of the same shape and type."""
        weights: NDArray[Any]
        positive = np.maximum(ratings, ratings.dtype.type(0))
        if self.feedback == "ratings":
            weights = positive
        elif self.feedback == "implicit":
            weights = positive > 0
        else:
            weights = np.log1p(positive) / np.float64(self.mean_log)
        return weights.astype(ratings.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class FoldIn:
    """How a user's factors are computed from interactions.

    Attributes:
        input_scale: float32, shape (items,): the item factors of the model file, which are scaled for scoring, are
            multiplied by it to get those of the fit's equations.
        gram: float32, shape (k, k): G.
        weighting: the weight of each interaction by its rating.
        exponent: e in ``confidence = weight * (sum of the user's weights)^-e``.
        nonnegative: whether factors are non-negative.
        l2, l1: penalties.
        alpha: a of als; 0 for other algorithms.
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
        """Read it from a model file: what :meth:`header` returned, and two arrays.

        Raises:
            ValueError: if the header or an array is invalid.
        """
        if not isinstance(header, Mapping) or inputs.ndim != 1 or gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
            raise ValueError("the header or the shape of an array is invalid")
        if inputs.dtype != np.float32 or gram.dtype != np.float32:
            raise ValueError("its arrays are not float32")
        numbers: dict[str, float] = {}
        for name in ("mean_log", "exponent", "l2", "l1", "confidence"):
            number: Any = header.get(name)
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            least = MIN_MEAN_LOG if name == "mean_log" else 0
            if not is_number or not least <= number <= (MAX_EXPONENT if name == "exponent" else MAX_NUMBER):
                raise ValueError(f"{name} is out of range")
            numbers[name] = float(number)
        if header.get("feedback") not in get_args(Feedback) or type(header.get("nonnegative")) is not bool:
            raise ValueError("feedback or nonnegative is invalid")
        weighting = Weighting(header["feedback"], numbers.pop("mean_log"))
        alpha = numbers.pop("confidence")
        return cls(inputs, gram, weighting, nonnegative=header["nonnegative"], alpha=alpha, **numbers)

    @classmethod
    def without_factors(cls, weighting: Weighting, n_items: int) -> Self:
        """For a model with item-item weights only: a confidence is the weight of the interaction."""
        return cls(np.ones(n_items, np.float32), np.zeros((0, 0), np.float32), weighting)

    def header(self) -> dict[str, str | float | bool]:
        """What a model file stores besides ``input_scale`` and ``gram``."""
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
        """Whether its arrays match item factors of this shape, (k, items)."""
        return self.gram.shape == (shape[0], shape[0]) and self.input_scale.shape == (shape[1],)

    def confidences(self, weights: Vector) -> Vector:
        """The confidences of all interactions of a user from their weights, shape (interactions,)."""
        confidences: Vector = weights * _positive_sum(weights) ** -self.exponent
        return confidences

    def weights_of(self, confidences: Vector) -> Vector:
        """The inverse of :meth:`confidences`, in double precision."""
        total = _positive_sum(confidences) ** (1 / (1 - self.exponent))
        weights: Vector = confidences.astype(np.float64) * total**self.exponent
        return weights

    def solve(self, own_factors: Matrix, indices: NDArray[np.int32], weights: Vector) -> Vector:
        """The factors of a user, shape (k,).

        Args:
            own_factors: the factors of the user's items as in the model file, shape (k, interactions).
            indices: these items, shape (interactions,).
            weights: of the interactions, shape (interactions,).
        """
        system, parts = self._equations(own_factors, indices, weights)
        target = parts.sum(axis=1) - self.l1
        return _solve_nonnegative(system, target) if self.nonnegative else _solve(system, target)

    def shares(self, factors: Vector, own_factors: Matrix, indices: NDArray[np.int32], weights: Vector) -> Matrix:
        """How much each of a user's interactions contributes to the user's factors, shape (k, interactions).

        The contributions sum to the factors exactly. Solved factors are linear in the interactions except for l1;
        that, and what a training did not converge to, is shared among all interactions by weight.
        """
        system, parts = self._equations(own_factors, indices, weights)
        active = np.flatnonzero(factors)
        shares = np.zeros(parts.shape)
        shares[active] = _solve(system[np.ix_(active, active)], parts[active])
        return shares + np.outer(factors - shares.sum(axis=1), weights / _positive_sum(weights))

    def _equations(
        self, own_factors: Matrix, indices: NDArray[np.int32], weights: Vector
    ) -> tuple[Matrix, Matrix]:
        """The system's matrix, shape (k, k), and each interaction's part of the right side, (k, interactions)."""
        if not self.alpha:
            return self._system, own_factors * (self.confidences(weights) * self.input_scale[indices])
        extra = self.alpha * weights
        parts = own_factors * np.where(weights > 0, 1 + extra, 0.0)
        return self._system + (own_factors * extra) @ own_factors.T, parts


def _positive_sum(numbers: Vector) -> float:
    """The sum of the numbers; 1 if it is not positive."""
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
    fewest, attempts = count + 1, MAX_FULL_EXCHANGES
    while attempts:
        solution = np.zeros(count)
        active = np.flatnonzero(positive)
        solution[active] = _solve(system[np.ix_(active, active)], target[active])
        slope = system @ solution - target
        infeasible = np.flatnonzero(np.where(positive, solution < 0, slope < -tolerance))
        if not len(infeasible):
            return solution
        if len(infeasible) < fewest:
            fewest, attempts = len(infeasible), MAX_FULL_EXCHANGES
        else:
            attempts -= 1
        positive[infeasible] ^= True
    return _active_set(system, target, tolerance)


def _active_set(system: Matrix, target: Vector, tolerance: float) -> Vector:
    """As :func:`_solve_nonnegative`, by an active-set method (Lawson and Hanson 1974).

    Every step lowers the objective: slower, but it also converges if components are nearly collinear.
    """
    solution, positive, best = np.zeros(len(target)), np.zeros(len(target), np.bool_), -1
    for _ in range(MAX_EXCHANGES):
        active = np.flatnonzero(positive)
        unbounded = _solve(system[np.ix_(active, active)], target[active])
        below = np.flatnonzero(unbounded <= 0)
        if len(below):
            current = solution[active]
            steps = current[below] / np.maximum(current[below] - unbounded[below], np.finfo(np.float64).tiny)
            current += steps.min() * (unbounded - current)
            current[below[steps <= steps.min()]] = 0
            solution[active] = np.maximum(current, 0)
            positive = solution > 0
            if positive[best]:
                continue
            break  # the expected gain was a rounding error
        solution[active] = unbounded
        gain = np.where(positive, -np.inf, target - system @ solution)
        best = int(gain.argmax())
        if gain[best] <= tolerance:
            break
        positive[best] = True
    return solution
