"""A trained model, ready to answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recserver.artifact import Artifact
from recserver.errors import UnreadableModel
from recserver.ids import IdTable
from recserver.recommend.scoring import best
from recserver.specs.models import LARGEST_VERSION, is_version


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
    """

    model_version: int
    users: IdTable
    items: IdTable
    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    seen_indptr: NDArray[np.int64]
    seen_indices: NDArray[np.int32]
    popularity: NDArray[np.float32]

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """The model in a packed file.

        Raises:
            UnreadableModel: if an array is missing or the arrays do not fit together.
        """
        version = artifact.header.get("model_version")
        if not is_version(version):
            raise _inconsistent(f"it has no version from 1 to {LARGEST_VERSION}")
        try:
            parts = {name: artifact.arrays[name] for name in _ARRAYS}
        except KeyError as error:
            raise _inconsistent(f"{error} is missing") from None
        users = IdTable(parts["user_text"], parts["user_offsets"], checked=artifact.checked)
        items = IdTable(parts["item_text"], parts["item_offsets"], checked=artifact.checked)
        if not artifact.checked:
            _require_fit(parts, len(users), len(items))
        counts = parts["item_counts"]
        return cls(
            model_version=version,
            users=users,
            items=items,
            user_factors=parts["user_factors"],
            item_factors=parts["item_factors"],
            seen_indptr=parts["seen_indptr"],
            seen_indices=parts["seen_indices"],
            popularity=(counts / max(1, len(users))).astype(np.float32),
        )

    def recommend(self, user_id: str, n: int, *, exclude_seen: bool, fallback: bool) -> Answer:
        """The ``n`` best items for a user; for an unknown one the most popular, if ``fallback``."""
        user = self.users.find(user_id)
        if user is None:
            if not fallback:
                return Answer([], None)
            return Answer(self._top(self.popularity, n), Source.POPULAR)
        scores = self.user_factors[user] @ self.item_factors
        if exclude_seen:
            scores[self.seen_indices[self.seen_indptr[user] : self.seen_indptr[user + 1]]] = -np.inf
        return Answer(self._top(scores, n), Source.PERSONAL)

    def _top(self, scores: NDArray[np.float32], n: int) -> list[tuple[str, float]]:
        places = best(scores, n)
        return [
            (self.items[place], score)
            for place, score in zip(places.tolist(), scores[places].tolist(), strict=True)
        ]


_ARRAYS = (
    "user_text",
    "user_offsets",
    "item_text",
    "item_offsets",
    "user_factors",
    "item_factors",
    "seen_indptr",
    "seen_indices",
    "item_counts",
)


def _inconsistent(reason: str) -> UnreadableModel:
    return UnreadableModel(
        f"The model file's parts do not fit together ({reason}): train the model again.", reason
    )


def _require_fit(parts: dict[str, NDArray[Any]], users: int, items: int) -> None:
    """Refuse arrays that do not agree, so that no request can fail on them."""
    factors = parts["user_factors"], parts["item_factors"]
    indptr, indices, counts = parts["seen_indptr"], parts["seen_indices"], parts["item_counts"]
    sound = (
        all(one.ndim == 2 and one.dtype == np.float32 for one in factors)
        and factors[0].shape[0] == users
        and factors[1].shape == (factors[0].shape[1], items)
        and indptr.shape == (users + 1,)
        and indices.ndim == 1
        and counts.shape == (items,)
        and indptr.dtype.kind == indices.dtype.kind == counts.dtype.kind == "i"
        and indptr[0] == 0
        and indptr[-1] == len(indices)
        and bool((np.diff(indptr) >= 0).all())
        and bool(((indices >= 0) & (indices < items)).all())
    )
    if not sound:
        raise _inconsistent("their shapes differ")
    largest = [max(float(one.max(initial=0)), -float(one.min(initial=0))) for one in factors]
    if largest[0] * largest[1] * factors[1].shape[0] > float(np.finfo(np.float32).max):
        raise _inconsistent("their scores may be infinite")
