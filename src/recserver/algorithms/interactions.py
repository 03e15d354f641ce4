"""Who interacted with what: the one form in which data reaches an algorithm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECENT_HALF_LIFE_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Interactions:
    """Distinct user-item pairs in compressed sparse rows, one row a user.

    Attributes:
        users: ids, ascending; row ``u`` belongs to ``users[u]``.
        items: ids, ascending; column ``i`` belongs to ``items[i]``.
        indptr: int64, shape (users + 1,): row ``u`` is ``indices[indptr[u]:indptr[u + 1]]``.
        indices: int32, shape (pairs,): columns, ascending within a row.
        ratings: float32, shape (pairs,): finite, one a pair.
        rows_used: rows of the source that became part of it, repeated pairs counted each.
        rejected: rows that did not, by reason.
        weighted: whether the data chef weighs rows by event, age or number, so that ratings mean amounts.
        times: float64, shape (pairs,): when each pair occurred last, in seconds since 1970; None if nobody knows.
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
        """Share of all user-item pairs that occurs, 0 to 1."""
        cells = len(self.users) * len(self.items)
        return self.n_pairs / cells if cells else 0.0

    def item_counts(self) -> NDArray[np.int64]:
        """Shape (items,): how many users interacted with each item."""
        return np.bincount(self.indices, minlength=len(self.items)).astype(np.int64)

    def recent_popularity(self, now: float) -> NDArray[np.float32] | None:
        """Float32, shape (items,), adding up to 1: each item's share of what happened of late; None without times.

        An interaction counts half as much as one :data:`RECENT_DAYS` later. Times after ``now``, in seconds since
        1970, are taken for mistakes: such interactions are as old as the newest of the others.
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
    """Where each id stands among those that are known, shape (ids,); -1 if nowhere."""
    places = {one: place for place, one in enumerate(known)}
    return np.fromiter((places.get(one, -1) for one in ids), np.int64, len(ids))
