"""User-item interactions: the input of every algorithm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECENT_HALF_LIFE_DAYS = 30.0
"""Of an interaction's weight in :meth:`Interactions.recent_popularity`."""


@dataclass(frozen=True, slots=True)
class Interactions:
    """Distinct user-item pairs as a compressed sparse row matrix, one row per user.

    Attributes:
        users: ids, ascending; row ``u`` belongs to ``users[u]``.
        items: ids, ascending; column ``i`` belongs to ``items[i]``.
        indptr: int64, shape (users + 1,): row ``u`` is ``indices[indptr[u]:indptr[u + 1]]``.
        indices: int32, shape (pairs,): columns, ascending within a row.
        ratings: float32, shape (pairs,): finite, one per pair.
        rows_used: the number of source rows used, counting repeated pairs.
        rejected: the number of rejected source rows by reason.
        times: float64, shape (pairs,): the latest time of each pair, in seconds since 1970; None if unknown.
        weighted: whether the data chef weights rows by event, age or count, so that ratings are amounts.
    """

    users: list[str]
    items: list[str]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    ratings: NDArray[np.float32]
    rows_used: int
    rejected: dict[str, int] = field(default_factory=dict)
    times: NDArray[np.float64] | None = None
    weighted: bool = False

    @property
    def n_pairs(self) -> int:
        return len(self.indices)

    @property
    def density(self) -> float:
        """The share of all user-item pairs that occurs, from 0 to 1."""
        cells = len(self.users) * len(self.items)
        return self.n_pairs / cells if cells else 0.0

    def item_counts(self) -> NDArray[np.int64]:
        """The number of users who interacted with each item, shape (items,)."""
        return np.bincount(self.indices, minlength=len(self.items)).astype(np.int64)

    def recent_popularity(self, now: float) -> NDArray[np.float32] | None:
        """Each item's share of recent interactions, float32, shape (items,), summing to 1; None without times.

        An interaction counts half as much as one :data:`RECENT_HALF_LIFE_DAYS` later. Times after ``now``, in
        seconds since 1970, are considered errors: such interactions count like the newest of the others.
        """
        if self.times is None or not len(self.times):
            return None
        past = self.times[self.times <= now]
        ages = np.maximum(0.0, (past.max() if len(past) else now) - self.times)
        weights = 0.5 ** (ages / (RECENT_HALF_LIFE_DAYS * 86_400))
        shares = np.bincount(self.indices, weights / weights.sum(), minlength=len(self.items))
        return shares.astype(np.float32)

    def statistics(self) -> dict[str, Any]:
        """The ``training_stats`` of a model's metadata."""
        return {
            "n_users": len(self.users),
            "n_items": len(self.items),
            "n_interactions": self.n_pairs,
            "sparsity": 1.0 - self.density,
            "density": self.density,
            "avg_interactions_per_user": self.n_pairs / len(self.users),
            "avg_interactions_per_item": self.n_pairs / len(self.items),
            "mean_rating": float(self.ratings.mean(dtype=np.float64)),
            "std_rating": float(self.ratings.std(dtype=np.float64)),
            "min_rating": float(self.ratings.min()),
            "max_rating": float(self.ratings.max()),
        }


def indices_in(known: Iterable[str], ids: Sequence[str]) -> NDArray[np.int64]:
    """The index of each id among the known ones, shape (len(ids),); -1 if it is unknown."""
    index = {known_id: position for position, known_id in enumerate(known)}
    return np.fromiter((index.get(one_id, -1) for one_id in ids), np.int64, len(ids))


def to_indptr(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row pointers of a sparse matrix, shape (rows + 1,), from the number of entries of each row."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
