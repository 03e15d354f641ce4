"""A trained model, ready to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recserver.artifact import Artifact
from recserver.errors import UnreadableModel
from recserver.ids import IdTable
from recserver.neighbors import Neighbors
from recserver.ranking import best

_INCONSISTENT = "The model file's parts do not fit together ({}): train the model again."


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

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """The model in a packed file.

        Raises:
            UnreadableModel: if an array is missing or the arrays do not fit together.
        """
        version = artifact.header.get("model_version")
        if not isinstance(version, int):
            raise UnreadableModel(_INCONSISTENT.format("it has no version"))
        try:
            parts = {name: artifact.arrays[name] for name in _ARRAYS}
        except KeyError as error:
            raise UnreadableModel(_INCONSISTENT.format(f"{error} is missing")) from None
        users = IdTable(parts["user_text"], parts["user_offsets"], checked=artifact.checked)
        items = IdTable(parts["item_text"], parts["item_offsets"], checked=artifact.checked)
        neighbors = _neighbors(artifact.arrays)
        if not artifact.checked:
            _require_fit(parts, len(users), len(items))
            farthest = _farthest(parts["user_factors"], parts["item_factors"])
            if neighbors is not None:
                _require_neighbors_fit(neighbors, parts, len(items))
                farthest += _farthest_of_neighbors(neighbors, parts["seen_indptr"])
            if farthest > float(np.finfo(np.float32).max):
                raise UnreadableModel(_INCONSISTENT.format("their scores may be infinite"))
        counts = parts["item_counts"]
        return cls(
            model_version=version,
            users=users,
            items=items,
            user_factors=parts["user_factors"],
            item_factors=parts["item_factors"],
            seen_indptr=parts["seen_indptr"],
            seen_indices=parts["seen_indices"],
            neighbors=neighbors,
            popularity=(counts / max(1, len(users))).astype(np.float32),
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


def _neighbors(arrays: Mapping[str, NDArray[Any]]) -> Neighbors | None:
    """The arrays of item-item weights; None if there are none.

    Raises:
        UnreadableModel: if some of them are missing.
    """
    found = [arrays.get(name) for name in _NEIGHBOR_ARRAYS]
    if all(one is None for one in found):
        return None
    missing = [name for name, one in zip(_NEIGHBOR_ARRAYS, found, strict=True) if one is None]
    if missing:
        raise UnreadableModel(_INCONSISTENT.format(f"{missing[0]!r} is missing"))
    return Neighbors(*(arrays[name] for name in _NEIGHBOR_ARRAYS))


_NEIGHBOR_ARRAYS = ("neighbor_indptr", "neighbor_indices", "neighbor_weights", "seen_strengths")


def _require_neighbors_fit(found: Neighbors, parts: Mapping[str, NDArray[Any]], items: int) -> None:
    sound = (
        _is_sparse_rows(found.indptr, found.indices, items, items)
        and found.weights.shape == found.indices.shape
        and found.strengths.shape == parts["seen_indices"].shape
        and found.weights.dtype == found.strengths.dtype == np.float32
    )
    if not sound:
        raise UnreadableModel(_INCONSISTENT.format("the shapes of the neighbours differ"))


def _farthest(users: NDArray[np.float32], items: NDArray[np.float32]) -> float:
    """A score that no product of factors exceeds."""
    return _largest(users) * _largest(items) * len(items)


def _farthest_of_neighbors(found: Neighbors, seen_indptr: NDArray[np.int64]) -> float:
    """A score that neighbours never exceed."""
    return _largest(found.weights) * _largest(found.strengths) * int(np.diff(seen_indptr).max(initial=0))


def _largest(numbers: NDArray[Any]) -> float:
    """The largest magnitude."""
    return max(float(numbers.max(initial=0)), -float(numbers.min(initial=0)))


def _is_sparse_rows(indptr: NDArray[Any], indices: NDArray[Any], rows: int, columns: int) -> bool:
    """Whether the arrays are compressed sparse rows of this shape."""
    return (
        indptr.shape == (rows + 1,)
        and indices.ndim == 1
        and indptr.dtype.kind == indices.dtype.kind == "i"
        and indptr[0] == 0
        and indptr[-1] == len(indices)
        and bool((np.diff(indptr) >= 0).all())
        and bool(((indices >= 0) & (indices < columns)).all())
    )


def _require_fit(parts: dict[str, NDArray[Any]], users: int, items: int) -> None:
    """Refuse arrays that do not agree, so that no request can fail on them."""
    factors = parts["user_factors"], parts["item_factors"]
    counts = parts["item_counts"]
    sound = (
        all(one.ndim == 2 and one.dtype == np.float32 for one in factors)
        and factors[0].shape[0] == users
        and factors[1].shape == (factors[0].shape[1], items)
        and _is_sparse_rows(parts["seen_indptr"], parts["seen_indices"], users, items)
        and counts.shape == (items,)
        and counts.dtype.kind == "i"
    )
    if not sound:
        raise UnreadableModel(_INCONSISTENT.format("their shapes differ"))
