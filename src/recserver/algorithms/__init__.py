"""Algorithms: from interactions to factors. This front holds only the protocol.

Modules here are imported by the serving process for their hyperparameters; what they need for fitting
(scikit-learn) is imported inside ``fit``, which runs in a worker process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recserver.interactions import Interactions


@dataclass(frozen=True, slots=True)
class Factors:
    """A fitted factorisation: the score of item ``i`` for user ``u`` is ``users[u] @ items[i]``.

    Attributes:
        users: float32, shape (users, k).
        items: float32, shape (items, k).
        hyperparameters: all of them, as used.
        metrics: what the fit measured of itself, under the names of ``model_metrics``.
        warnings: a sentence for everything that was not done as asked.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    hyperparameters: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Algorithm(Protocol):
    """One algorithm under one name, with its defaults."""

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

    def fit(self, interactions: Interactions, hyperparameters: Mapping[str, Any]) -> Factors:
        """Factorise. Equal input gives equal output.

        A training does so twice: with a part of its interactions, to evaluate on the rest, and with all.

        Raises:
            TrainingFailed: if the data cannot be learned from, with the reason.
        """
        ...
