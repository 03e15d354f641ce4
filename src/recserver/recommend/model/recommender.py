"""A trained model, ready to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.fold_in import FoldIn, Vector
from recserver.algorithms.neighbors import ItemItemWeights
from recserver.recommend.model.item_attributes import Attributes
from recserver.recommend.model.model_arrays import ModelArrays
from recserver.recommend.user_profile import Source, UserProfile, fold_in_user
from recserver.storage.model_file import Artifact
from recserver.storage.model_file.id_table import IdIndex

BLOCK_ITEMS = 2**14
"""Items whose factors are weighed together: what is copied of them stays in a core's cache."""

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Recommender:
    """One version of a model. It never changes, so a request that holds it sees one version only.

    Attributes:
        user_factors: float32, shape (users, k).
        item_factors: float32, shape (k, items).
        seen_indptr, seen_indices: compressed sparse rows, one a user: the items interacted with.
        seen_strengths: float32, one for each of ``seen_indices``: how much each speaks; None if all alike.
        item_counts: shape (items,): how many users interacted with each item.
        popularity: float32, shape (items,): the share of all users that they are.
        item_norms: float32, shape (items,): the Euclidean norm of each item's factors.
        largest_norm: of them; computed.
        recent: float32, shape (items,): each item's share of what happened of late; None if no times are known.
        neighbors: item-item weights, which add to what the factors say; None if the model has none.
        fold_in: how factors follow from interactions; None if that cannot be told.
        attributes: what is known of the items; None if nothing is.
    """

    model_version: int
    users: IdIndex
    items: IdIndex
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    seen_indptr: NDArray[np.int64]
    seen_indices: NDArray[np.int32]
    seen_confidences: NDArray[np.float32] | None
    item_counts: NDArray[np.int64]
    popularity: NDArray[np.float32]
    item_norms: NDArray[np.float32]
    recent_popularity: NDArray[np.float32] | None = None
    neighbors: ItemItemWeights | None = None
    fold_in: FoldIn | None = None
    attributes: Attributes | None = None
    max_norm: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_norm", float(self.item_norms.max(initial=0.0)))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """The model in a packed file.

        Raises:
            UnreadableModel: if an array is missing or the arrays do not fit together.
        """
        parts = ModelArrays.from_artifact(artifact)
        counts = parts.arrays["item_counts"]
        return cls(
            model_version=parts.model_version,
            users=parts.users,
            items=parts.items,
            user_factors=parts.arrays["user_factors"],
            item_factors=parts.arrays["item_factors"],
            seen_indptr=parts.arrays["seen_indptr"],
            seen_indices=parts.arrays["seen_indices"],
            seen_confidences=parts.arrays.get("seen_strengths"),
            item_counts=counts,
            popularity=(counts / max(1, len(parts.users))).astype(np.float32),
            item_norms=parts.item_norms(),
            recent_popularity=parts.arrays.get("item_recent"),
            neighbors=parts.neighbors,
            fold_in=parts.fold_in,
            attributes=parts.attributes,
        )

    def user_profile(self, user_id: str | None, extra_ratings: Mapping[int, float]) -> UserProfile | None:
        """A user with all that is known of them; None if nothing is.

        Args:
            user_id: None for somebody without an id.
            sent: ratings by the places of items, which count in place of what the training knew.
        """
        user = None if user_id is None else self.users.find(user_id)
        known = None if user is None else self._known_profile(user)
        if not extra_ratings or self.fold_in is None:
            return known
        before = None if known is None else (known.items, self.weights_of(known))
        return fold_in_user(before, extra_ratings, self.fold_in, self.item_factors) or known

    def _known_profile(self, user: int) -> UserProfile:
        own = slice(self.seen_indptr[user], self.seen_indptr[user + 1])
        items, worth = self.seen_indices[own], None
        if self.seen_confidences is not None:
            strengths = self.seen_confidences[own]
        else:
            strengths = worth = np.ones(len(items), np.float32)
        return UserProfile(self.user_factors[user], items, strengths, Source.PERSONAL, worth)

    def weights_of(self, profile: UserProfile) -> Vector:
        """What each of somebody's interactions was to the fit, float64, shape (interactions,)."""
        if profile.weights is None and self.fold_in is not None:
            return self.fold_in.weights_of(profile.confidences)
        return (profile.confidences if profile.weights is None else profile.weights).astype(np.float64)

    def indices_of(self, item_ids: Iterable[str]) -> NDArray[np.int32]:
        """Where the known ones of these ids stand among the items, in their order."""
        found = map(self.items.find, item_ids)
        return np.fromiter((place for place in found if place is not None), np.int32)


def factor_scores(factors: NDArray[np.float32], item_factors: NDArray[np.float32]) -> Scores:
    """``factors @ item_factors``, for which only the rows of factors that are not zero are read.

    Args:
        factors: float32, shape (k,).
        item_factors: float32, shape (k, items).
    """
    active = np.flatnonzero(factors)
    if 2 * len(active) > len(factors):
        return factors @ item_factors
    scores, own = np.empty(item_factors.shape[1], np.float32), factors[active]
    for start in range(0, len(scores), BLOCK_ITEMS):
        scores[start : start + BLOCK_ITEMS] = own @ item_factors[active, start : start + BLOCK_ITEMS]
    return scores
