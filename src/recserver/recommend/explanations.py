"""Why an item is recommended: what each of somebody's own interactions adds to its score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.fold_in import Matrix
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.user_profile import Person

MOST_SHARES = 2**21
"""That are in memory together: 16 MiB."""

MOST = 10
"""Interactions that are named; the others are added up."""

ROUNDING = 1e-4
"""Of the magnitudes of all shares together: so much may be lost in single precision."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a score comes from. The shares and ``others`` add up to it.

    Attributes:
        shares: item ids of somebody's own interactions, and what each adds to the score; largest first.
        others: what all further ones add.
    """

    shares: list[tuple[str, float]]
    others: float


def explain(
    model: Recommender,
    person: Person | None,
    places: NDArray[np.intp],
    scores: NDArray[np.float64],
    told: NDArray[np.float64],
) -> list[Explanation]:
    """One explanation for each place.

    Args:
        scores: by the model, shape (places,).
        told: what became of them by boosts; every share is boosted alike.
    """
    if person is None or not len(person.items):
        return [Explanation([], score) for score in told.tolist()]
    of_factors = _of_factors(model, person)
    step, found = max(1, MOST_SHARES // len(person.items)), list[Explanation]()
    for start in range(0, len(places), step):
        some = slice(start, start + step)
        shares = _shares(model, person, places[some], of_factors)
        shares *= told[some] / np.where(scores[some], scores[some], 1.0)
        each = zip(shares.T, told[some].tolist(), strict=True)
        found += [_named(model, person, own, score) for own, score in each]
    return found


def _of_factors(model: Recommender, person: Person) -> Matrix | None:
    """What of somebody's factors each interaction accounts for, shape (k, interactions); None if nobody knows."""
    if model.fold_in is None or not len(person.factors):
        return None
    own = model.item_factors[:, person.items].astype(np.float64)
    return model.fold_in.shares(person.factors, own, person.items, model.worth_of(person))


def _shares(
    model: Recommender, person: Person, places: NDArray[np.intp], of_factors: Matrix | None
) -> NDArray[np.float64]:
    """What each interaction adds to each score, shape (interactions, places)."""
    shares = np.zeros((len(person.items), len(places)))
    if of_factors is not None:
        shares += of_factors.T @ model.item_factors[:, places]
    if model.neighbors is not None:
        shares += model.neighbors.shares(person.items, person.strengths, places)
    return shares


def _named(model: Recommender, person: Person, shares: NDArray[np.float64], score: float) -> Explanation:
    sizes = np.abs(shares)
    largest = np.arange(len(shares)) if len(shares) <= MOST else np.sort(np.argpartition(-sizes, MOST)[:MOST])
    largest = largest[np.argsort(-sizes[largest], kind="stable")]
    largest = largest[shares[largest] != 0]
    told = shares[largest]
    rest = score - told.sum()
    if len(largest) == np.count_nonzero(shares) and 0 < abs(rest) <= ROUNDING * np.abs(told).sum():
        told[0] += rest  # what float32 rounded off the score is nobody else's
    named = [
        (model.items[int(place)], share) for place, share in zip(person.items[largest], told.tolist(), strict=True)
    ]
    return Explanation(named, score - float(told.sum()))
