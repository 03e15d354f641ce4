"""A trained model in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.fold_in import FoldIn, Vector
from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.recommend.model.item_attributes import Attributes
from recserver._internal.recommend.model.model_arrays import check_arrays, column_norms, read_parts
from recserver._internal.recommend.user_profile import UserProfile, fold_in_user
from recserver._internal.results.recommendations import Source
from recserver._internal.storage.model_file import Artifact
from recserver._internal.storage.model_file.id_table import IdIndex

BLOCK_ITEMS = 2**14
"""Items per block of a product: the copied factors stay in a core's cache."""

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Recommender:
    """One version of a model. It is immutable, so a request that holds it sees one version only.

    Attributes:
        user_factors: float32, shape (users, k).
        item_factors: float32, shape (k, items).
        seen_indptr, seen_indices: compressed sparse rows, one a user: the items of its interactions.
        seen_confidences: float32, one for each of ``seen_indices``: the confidence; None if all are 1.
        item_counts: shape (items,): how many users interacted with each item.
        popularity: float32, shape (items,): that count as a share of all users.
        item_norms: float32, shape (items,): the Euclidean norm of each item's factors.
        recent_popularity: float32, shape (items,): each item's share of recent interactions; None without times.
        neighbors: item-item weights, whose scores are added to those of the factors; None if there are none.
        fold_in: how factors follow from interactions; None if the algorithm does not support it.
        attributes: of the items; None if there are none.
        max_norm: the largest of ``item_norms``; computed.
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
            UnreadableModel: if an array is missing or the arrays are inconsistent.
        """
        arrays, verified = artifact.arrays, artifact.verified
        version, neighbors, fold_in = read_parts(artifact)
        items = IdIndex(arrays["item_text"], arrays["item_offsets"], checked=verified)
        users = IdIndex(arrays["user_text"], arrays["user_offsets"], checked=verified)
        attributes = Attributes.from_arrays(artifact.header, arrays, len(items), checked=verified)
        if not verified:
            check_arrays(arrays, len(users), len(items), neighbors, fold_in)
        return cls(
            model_version=version,
            users=users,
            items=items,
            user_factors=arrays["user_factors"],
            item_factors=arrays["item_factors"],
            seen_indptr=arrays["seen_indptr"],
            seen_indices=arrays["seen_indices"],
            seen_confidences=arrays.get("seen_strengths"),
            item_counts=arrays["item_counts"],
            popularity=(arrays["item_counts"] / max(1, len(users))).astype(np.float32),
            item_norms=arrays["item_norms"] if "item_norms" in arrays else column_norms(arrays["item_factors"]),
            recent_popularity=arrays.get("item_recent"),
            neighbors=neighbors,
            fold_in=fold_in,
            attributes=attributes,
        )

    def user_profile(self, user_id: str | None, extra_ratings: Mapping[int, float]) -> UserProfile | None:
        """The profile of a user; None for a cold-start user.

        Args:
            user_id: None for a session without a user id.
            extra_ratings: ratings by item index; they replace those of the same items in the training.
        """
        user = None if user_id is None else self.users.find(user_id)
        known = None if user is None else self._known_profile(user)
        if not extra_ratings or self.fold_in is None:
            return known
        trained = None if known is None else (known.items, self.weights_of(known))
        return fold_in_user(trained, extra_ratings, self.fold_in, self.item_factors) or known

    def _known_profile(self, user: int) -> UserProfile:
        row = slice(self.seen_indptr[user], self.seen_indptr[user + 1])
        items, weights = self.seen_indices[row], None
        if self.seen_confidences is not None:
            confidences = self.seen_confidences[row]
        else:
            confidences = weights = np.ones(len(items), np.float32)
        return UserProfile(self.user_factors[user], items, confidences, Source.PERSONAL, weights)

    def weights_of(self, profile: UserProfile) -> Vector:
        """The weight of each of a user's interactions in the fit, float64, shape (interactions,)."""
        if profile.weights is None and self.fold_in is not None:
            return self.fold_in.weights_of(profile.confidences)
        return (profile.confidences if profile.weights is None else profile.weights).astype(np.float64)

    def indices_of(self, item_ids: Iterable[str]) -> NDArray[np.int32]:
        """The indices of those ids that the model has, in their order."""
        indices = map(self.items.find, item_ids)
        return np.fromiter((index for index in indices if index is not None), np.int32)


def factor_scores(factors: NDArray[np.float32], item_factors: NDArray[np.float32]) -> Scores:
    """``factors @ item_factors``, reading only the rows whose factor is not zero.

    Args:
        factors: float32, shape (k,).
        item_factors: float32, shape (k, items).
    """
    active = np.flatnonzero(factors)
    if 2 * len(active) > len(factors):
        return factors @ item_factors
    scores, nonzero = np.empty(item_factors.shape[1], np.float32), factors[active]
    for start in range(0, len(scores), BLOCK_ITEMS):
        scores[start : start + BLOCK_ITEMS] = nonzero @ item_factors[active, start : start + BLOCK_ITEMS]
    return scores
