"""Somebody to answer: what a model knows of a user, and what a request says beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.fold_in import FoldIn, Vector

FLOAT32_MAX = float(np.finfo(np.float32).max)


class Source(StrEnum):
    """Where an answer comes from."""

    PERSONAL = "personal"
    """The user was in the training."""
    FOLD_IN = "fold_in"
    """The user was not, but interactions were sent along."""
    POPULAR = "popular"
    """Nothing is known of the user: the items that most users interacted with."""
    RECENT = "recent"
    """Nothing is known of the user: those that most users interacted with lately."""


@dataclass(frozen=True, slots=True)
class UserProfile:
    """Somebody's factors and interactions, in the terms of one version of a model.

    Attributes:
        factors: float32, shape (k,).
        items: int32, shape (interactions,): places of items, ascending.
        strengths: float32, shape (interactions,): by which neighbours of the items speak.
        source: ``personal`` or ``fold_in``.
        worth: shape (interactions,): what each interaction was to the fit; None where it follows from strengths.
    """

    factors: NDArray[np.float32]
    items: NDArray[np.int32]
    confidences: NDArray[np.float32]
    source: Source
    weights: Vector | None = None


def fold_in_user(
    known: tuple[NDArray[np.int32], Vector] | None,
    extra_ratings: Mapping[int, float],
    fold_in: FoldIn,
    item_factors: NDArray[np.float32],
) -> UserProfile | None:
    """Somebody after interactions that a request tells of; None if these, and what was known, say nothing.

    Args:
        known: places of the items that the training knew of, and the worth of each interaction; None for somebody
            new.
        sent: places of items and their ratings; they count in place of what was known of these.
        item_factors: float32, shape (k, items).
    """
    places = np.fromiter(extra_ratings, np.int32, len(extra_ratings))
    worth = fold_in.weighting.weights(np.fromiter(extra_ratings.values(), np.float64, len(extra_ratings)))
    if known is not None:
        kept = ~np.isin(known[0], places)
        places, worth = np.append(known[0][kept], places), np.append(known[1][kept], worth)
    if not worth.any():
        return None
    order = np.argsort(places)
    places, worth = places[order], worth[order]
    factors, strengths = fold_in.solve(item_factors[:, places], places, worth), fold_in.confidences(worth)
    if not all(np.abs(one).max(initial=0.0) <= FLOAT32_MAX for one in (factors, strengths)):
        return None
    return UserProfile(
        factors=factors.astype(np.float32),
        items=places,
        confidences=strengths.astype(np.float32),
        source=Source.FOLD_IN if known is None else Source.PERSONAL,
        weights=worth,
    )
