"""Algorithms: from interactions to factors. This front holds only the protocol.

Modules here are imported by the serving process for their hyperparameters; what they need for fitting
(scipy, scikit-learn) is imported inside ``fit``, which runs in a worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.fold_in import FoldIn
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.neighbors import ItemItemWeights

Told = Callable[[int, int, float], None]
"""Is told after each iteration of a fit: its number from 1, how many there will be at most, the loss."""


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fitted model: the score of item ``i`` for user ``u`` is ``users[u] @ items[i]``, and what neighbors add.

    Attributes:
        users: float32, shape (users, k); k may be 0.
        items: float32, shape (items, k).
        hyperparameters: all of them, as used.
        metrics: what the fit measured of itself, under the names of ``model_metrics``.
        warnings: a sentence for everything that was not done as asked.
        neighbors: item-item weights, applied to the user's interactions; None if the model has none.
        item_scale: float32, shape (items,): ``items`` were multiplied by it after the fit. A warm start divides.
        fold_in: how a user's factors, and strengths for the neighbors, follow from interactions; None if the
            algorithm does not tell. Then people who were not in the training get what is popular.
        strengths: float32, shape (pairs,): of the users' interactions by ``fold_in``; None if those of a user are
            all worth 1, or ``neighbors`` has them.
        started_warm: whether the fit started from ``Surroundings.start``.
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
        n_users: int,
        hyperparameters: dict[str, Any],
        warnings: Sequence[str] = (),
        fold_in: FoldIn | None = None,
    ) -> FittedModel:
        """A model that has item-item weights only."""
        users, items = (np.zeros((n, 0), np.float32) for n in (n_users, len(neighbors.indptr) - 1))
        return cls(users, items, hyperparameters, {}, tuple(warnings), neighbors, fold_in=fold_in)

    def scores(self, interactions: Interactions, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """The scores of all items for some users of those that it was fitted to, shape (their number, items)."""
        with np.errstate(over="ignore", invalid="ignore"):  # the server refuses such a model, and says so
            scores: NDArray[np.float32] = self.users[users] @ self.items.T
        if self.neighbors is not None:
            for place, user in enumerate(users.tolist()):
                own = slice(interactions.indptr[user], interactions.indptr[user + 1])
                scores[place] += self.neighbors.scores(interactions.indices[own], self.neighbors.confidences[own])
        return scores

    def is_finite(self) -> bool:
        """Whether every number is."""
        parts = [self.users, self.items]
        if self.neighbors is not None:
            parts += [self.neighbors.weights, self.neighbors.confidences]
        return all(bool(np.isfinite(part).all()) for part in parts)


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The factors of an earlier fit, for users and items of a later one.

    Attributes:
        users: float32, shape (users, k): zero for users who were not in it.
        items: float32, shape (items, k), not scaled: zero for items that were not in it.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FitContext:
    """What a fit may use beside its data; an algorithm is free to ignore it.

    Attributes:
        threads: how many it may use. The result does not depend on it.
        told: is told after each iteration; what it raises ends the fit.
        start: where to start from in place of chance.
    """

    threads: int = 1
    on_iteration: Told = lambda iteration, iterations, loss: None
    warm_start: WarmStart | None = None


class Algorithm(Protocol):
    """One algorithm under one name, with its defaults. ``params.BaseAlgorithm`` has what most have in common."""

    model_type: str
    """The family, such as ``nmf``."""
    model_class: str
    """The name that metadata gives the trained model, such as ``NMFRecommendationModel``."""
    default_params: dict[str, Any]
    """Hyperparameters that every new model's config shows; sending them back is always accepted."""

    def check(
        self, hyperparameters: Mapping[str, Any], *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        """The given hyperparameters, checked and in their proper types, and warnings.

        Args:
            hyperparameters: names and values as somebody wrote them.
            ignore: unknown names that are passed over with a warning instead of refused.

        Raises:
            InvalidInput: naming every wrong one and what is allowed.
        """
        ...

    def max_warm_starts(self, hyperparameters: Mapping[str, Any]) -> int:
        """How many fits in a row may start from the one before them, before one is cold; 0 if none can."""
        ...

    def tune(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> dict[str, Any]:
        """Values for hyperparameters that were left to the data; empty if there are none, or too few data.

        A training asks once, with the part of its interactions that its evaluation learns from.
        """
        ...

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        """Fit a model. Equal input gives equal output.

        A training does so twice: with a part of its interactions, to evaluate on the rest, and with all.

        Raises:
            TrainingFailed: if the data cannot be learned from, with the reason.
        """
        ...
