"""A trained model, ready to answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recserver.artifact import Artifact
from recserver.attributes import Attributes
from recserver.ids import IdTable
from recserver.neighbors import Neighbors
from recserver.ranking import best
from recserver.recommend.parts import Parts


class Source(StrEnum):
    """Where an answer comes from."""

    PERSONAL = "personal"
    """The user was in the training."""
    POPULAR = "popular"
    """The user is unknown: the items that most users interacted with."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Items for one user, best first, with their scores; ``source`` is None where there is nothing to say."""

    items: list[tuple[str, float]]
    source: Source | None


@dataclass(frozen=True, slots=True)
class Recommender:
    """One version of a model. It never changes, so a request that holds it sees one version only.

    Attributes:
        user_factors: float32, shape (users, k).
        item_factors: float32, shape (k, items).
        seen_indptr, seen_indices: compressed sparse rows, one a user: the items interacted with.
        popularity: float32, shape (items,): the share of all users that interacted with each item.
        neighbors: item-item weights, which add to what the factors say; None if the model has none.
        attributes: what is known of the items besides; None if nothing is.
    """

    model_version: int
    users: IdTable
    items: IdTable
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    seen_indptr: NDArray[np.int64]
    seen_indices: NDArray[np.int32]
    popularity: NDArray[np.float32]
    neighbors: Neighbors | None = None
    attributes: Attributes | None = None

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """The model in a packed file.

        Raises:
            UnreadableModel: if an array is missing or the arrays do not fit together.
        """
        parts = Parts.of(artifact)
        counts = parts.arrays["item_counts"]
        return cls(
            model_version=parts.model_version,
            users=parts.users,
            items=parts.items,
            user_factors=parts.arrays["user_factors"],
            item_factors=parts.arrays["item_factors"],
            seen_indptr=parts.arrays["seen_indptr"],
            seen_indices=parts.arrays["seen_indices"],
            neighbors=parts.neighbors,
            attributes=parts.attributes,
            popularity=(counts / max(1, len(parts.users))).astype(np.float32),
        )

    def recommend(self, user_id: str, n: int, *, exclude_seen: bool, fallback: bool) -> Answer:
        """The ``n`` best items for a user; for an unknown one the most popular, if ``fallback``."""
        user = self.users.find(user_id)
        if user is None:
            if not fallback:
                return Answer([], None)
            return Answer(self._top(self.popularity, n), Source.POPULAR)
        own = slice(self.seen_indptr[user], self.seen_indptr[user + 1])
        seen = self.seen_indices[own]
        scores = self.user_factors[user] @ self.item_factors
        if self.neighbors is not None:
            scores += self.neighbors.scores(seen, self.neighbors.strengths[own])
        if exclude_seen:
            scores[seen] = -np.inf
        return Answer(self._top(scores, n), Source.PERSONAL)

    def _top(self, scores: NDArray[np.float32], n: int) -> list[tuple[str, float]]:
        places = best(scores, n)
        return [
            (self.items[place], score)
            for place, score in zip(places.tolist(), scores[places].tolist(), strict=True)
        ]
