"""The protocol of an algorithm: from interactions to a fitted model.

The serving process imports algorithms to validate hyperparameters. Libraries for fitting (scipy, scikit-learn) are
therefore imported inside ``fit``, which runs in a worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.fold_in import FoldIn, Weighting
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.item_item_weights import ItemItemWeights

HyperParams = Mapping[str, Any]
"""Hyperparameters by name."""

OnIteration = Callable[[int, int, float], None]
"""Called after each iteration of a fit with its number from 1, the maximum number of iterations, and the loss."""


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fitted model: user ``u`` scores item ``i`` as ``users[u] @ items[i]`` plus the score from ``neighbors``.

    Attributes:
        users: float32, shape (users, k); k may be 0.
        items: float32, shape (items, k).
        hyperparameters: all hyperparameters, as used.
        metrics: metrics of the fit itself, under the names of ``model_metrics``.
        warnings: a sentence for each thing that differs from what was requested.
        neighbors: item-item weights, applied to the user's interactions; None if the model has none.
        item_scale: float32, shape (items,): ``items`` were multiplied by it after the fit. A warm start divides.
        fold_in: how a user's factors, and confidences for the neighbors, are computed from interactions; None if
            the algorithm does not support it. Cold-start users then get popular items.
        confidences: float32, shape (pairs,): weights of the users' interactions as ``fold_in`` computes them; None
            if all interactions of a user count 1, or ``neighbors`` has them.
        warm_started: whether the fit started from ``FitContext.warm_start``.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    hyperparameters: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    neighbors: ItemItemWeights | None = None
    item_scale: NDArray[np.float32] | None = None
    fold_in: FoldIn | None = None
    confidences: NDArray[np.float32] | None = None
    warm_started: bool = False

    @classmethod
    def from_neighbors(
        cls,
        neighbors: ItemItemWeights,
        interactions: Interactions,
        hyperparameters: dict[str, Any],
        warnings: Sequence[str],
        weighting: Weighting,
    ) -> FittedModel:
        """A model of item-item weights only, learned from these interactions with this weighting."""
        users, items = (np.zeros((len(ids), 0), np.float32) for ids in (interactions.users, interactions.items))
        fold_in = FoldIn.without_factors(weighting, len(items))
        return cls(users, items, hyperparameters, {}, tuple(warnings), neighbors, fold_in=fold_in)

    def scores(self, interactions: Interactions, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """The scores of all items, shape (len(users), items).

        Args:
            interactions: those the model was fitted to.
            users: rows of ``interactions``.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # callers reject models whose numbers are not finite
            scores: NDArray[np.float32] = self.users[users] @ self.items.T
        if self.neighbors is not None:
            for row, user in enumerate(users.tolist()):
                pairs = slice(interactions.indptr[user], interactions.indptr[user + 1])
                scores[row] += self.neighbors.scores(
                    interactions.indices[pairs], self.neighbors.confidences[pairs]
                )
        return scores

    def is_finite(self) -> bool:
        """Whether all numbers of the model are finite."""
        arrays = [self.users, self.items]
        if self.neighbors is not None:
            arrays += [self.neighbors.weights, self.neighbors.confidences]
        return all(bool(np.isfinite(array).all()) for array in arrays)


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The factors of an earlier fit, for the users and items of a new one.

    Attributes:
        users: float32, shape (users, k): zero for users that are new.
        items: float32, shape (items, k), without ``item_scale``: zero for items that are new.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FitContext:
    """What a fit may use besides its data; an algorithm may ignore it.

    Attributes:
        threads: the number of threads it may use. The result does not depend on it.
        on_iteration: called after each iteration; an exception raised by it ends the fit.
        warm_start: factors to start from instead of random ones.
    """

    threads: int = 1
    on_iteration: OnIteration = lambda iteration, iterations, loss: None
    warm_start: WarmStart | None = None


class Algorithm(Protocol):
    """One algorithm with its default hyperparameters; most are subclasses of ``base.BaseAlgorithm``.

    ``description`` and ``use_case``, sentences for ``GET /get_available_algorithms``, are optional attributes.
    """

    model_type: str
    """The family, such as ``nmf``."""
    model_class: str
    """The name of the trained model in metadata, such as ``NMFRecommendationModel``."""
    default_params: dict[str, Any]
    """Hyperparameters in the config of every new model; ``check`` accepts them."""

    def check(
        self, hyperparameters: HyperParams, *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        """Validate hyperparameters.

        Args:
            hyperparameters: names and values as the client sent them.
            ignore: unknown names that cause a warning instead of an error.

        Returns:
            The hyperparameters in their proper types, and warnings.

        Raises:
            InvalidInput: naming every invalid hyperparameter and what is allowed.
        """

    def max_warm_starts(self, hyperparameters: HyperParams) -> int:
        """How many consecutive fits may start from the previous one before a cold start; 0 if none may."""
        return 0

    def tune(
        self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext
    ) -> dict[str, Any]:
        """Choose values for hyperparameters that are not set; empty if there are none, or too few data.

        A training calls it once, with the training part of its hold-out.
        """
        return {}

    def fit(self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext) -> FittedModel:
        """Fit a model. Equal input gives equal output.

        A training calls it twice: with the training part of its hold-out, to evaluate, and with all interactions.

        Raises:
            TrainingFailed: if the algorithm cannot learn from the data, with the reason.
        """
