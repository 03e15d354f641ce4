"""The arrays of a model file, checked against each other so that no request can fail on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recserver.artifact import Artifact
from recserver.attributes import Attributes
from recserver.errors import UnreadableModel
from recserver.ids import IdTable
from recserver.neighbors import Neighbors
from recserver.specs.models import LARGEST_VERSION, is_version

Arrays = Mapping[str, NDArray[Any]]

_MUST = ("user_factors", "item_factors", "seen_indptr", "seen_indices", "item_counts")
_NEIGHBORS = ("neighbor_indptr", "neighbor_indices", "neighbor_weights", "seen_strengths")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a model file holds.

    Attributes:
        arrays: those that every model has.
        neighbors: item-item weights, if it has any.
        attributes: what is known of the items besides, if anything is.
    """

    model_version: int
    users: IdTable
    items: IdTable
    arrays: Arrays
    neighbors: Neighbors | None
    attributes: Attributes | None

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """Those of a file that was read.

        Raises:
            UnreadableModel: if an array is missing or they do not fit together.
        """
        version, arrays = artifact.header.get("model_version"), artifact.arrays
        if not is_version(version):
            raise _inconsistent(f"it has no version from 1 to {LARGEST_VERSION}")
        optional = _NEIGHBORS if any(name in arrays for name in _NEIGHBORS) else ()
        for name in ("user_text", "user_offsets", "item_text", "item_offsets", *_MUST, *optional):
            if name not in arrays:
                raise _inconsistent(f"{name!r} is missing")
        items = IdTable(arrays["item_text"], arrays["item_offsets"], checked=artifact.checked)
        found = cls(
            version,
            IdTable(arrays["user_text"], arrays["user_offsets"], checked=artifact.checked),
            items,
            {name: arrays[name] for name in _MUST},
            Neighbors(*(arrays[name] for name in _NEIGHBORS)) if optional else None,
            Attributes.of(artifact.header, arrays, len(items), checked=artifact.checked),
        )
        if not artifact.checked:
            found._require_fit()
        return found

    def _require_fit(self) -> None:
        users, items, arrays = len(self.users), len(self.items), self.arrays
        factors, counts = (arrays["user_factors"], arrays["item_factors"]), arrays["item_counts"]
        sound = (
            all(one.ndim == 2 and one.dtype == np.float32 for one in factors)
            and factors[0].shape[0] == users
            and factors[1].shape == (factors[0].shape[1], items)
            and _is_sparse_rows(arrays["seen_indptr"], arrays["seen_indices"], users, items)
            and counts.shape == (items,)
            and counts.dtype.kind == "i"
        )
        if not sound:
            raise _inconsistent("their shapes differ")
        largest_score = _largest(factors[0]) * _largest(factors[1]) * len(factors[1])
        if self.neighbors is not None:
            largest_score += self._largest_of_neighbors(self.neighbors)
        if largest_score > float(np.finfo(np.float32).max):
            raise _inconsistent("their scores may be infinite")

    def _largest_of_neighbors(self, found: Neighbors) -> float:
        """A score that neighbours never exceed; they are required to fit first."""
        items, seen = len(self.items), self.arrays["seen_indices"]
        sound = (
            _is_sparse_rows(found.indptr, found.indices, items, items)
            and found.weights.shape == found.indices.shape
            and found.strengths.shape == seen.shape
            and found.weights.dtype == found.strengths.dtype == np.float32
        )
        if not sound:
            raise _inconsistent("the shapes of the neighbours differ")
        longest = int(np.diff(self.arrays["seen_indptr"]).max(initial=0))
        return _largest(found.weights) * _largest(found.strengths) * longest


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


def _inconsistent(reason: str) -> UnreadableModel:
    return UnreadableModel(
        f"The model file's parts do not fit together ({reason}): train the model again.", reason
    )
