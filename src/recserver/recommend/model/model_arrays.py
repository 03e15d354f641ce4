"""The arrays of a model file, checked against each other so that no request can fail on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.fold_in import FoldIn
from recserver.algorithms.neighbors import ItemItemWeights
from recserver.core.errors import UnreadableModel
from recserver.recommend.model.item_attributes import Attributes
from recserver.storage.model_file import Artifact
from recserver.storage.model_file.id_table import IdIndex
from recserver.storage.model_file.version_numbers import MAX_VERSION, is_version

Arrays = Mapping[str, NDArray[Any]]

_REQUIRED = ("user_factors", "item_factors", "seen_indptr", "seen_indices", "item_counts")
_NEIGHBORS = ("neighbor_indptr", "neighbor_indices", "neighbor_weights", "seen_strengths")
_FOLD_IN = ("fold_in_inputs", "fold_in_gram")
_OPTIONAL = ("seen_strengths", "item_norms", "item_recent")


@dataclass(frozen=True, slots=True)
class ModelArrays:
    """What a model file holds.

    Attributes:
        arrays: those that every model has, and of ``seen_strengths``, ``item_norms`` and ``item_recent`` those
            that it has.
        neighbors: item-item weights, if it has any.
        fold_in: how factors follow from interactions, if it tells.
        attributes: what is known of the items besides, if anything is.
    """

    model_version: int
    users: IdIndex
    items: IdIndex
    arrays: Arrays
    neighbors: ItemItemWeights | None
    fold_in: FoldIn | None
    attributes: Attributes | None

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Those of a file that was read.

        Raises:
            UnreadableModel: if an array is missing or they do not fit together.
        """
        version, arrays = artifact.header.get("model_version"), artifact.arrays
        if not is_version(version):
            raise _inconsistent(f"it has no version from 1 to {MAX_VERSION}")
        with_neighbors = any(name in arrays for name in _NEIGHBORS[:3])
        folds_in = "fold_in" in artifact.header
        optional = (*(_NEIGHBORS if with_neighbors else ()), *(_FOLD_IN if folds_in else ()))
        for name in ("user_text", "user_offsets", "item_text", "item_offsets", *_REQUIRED, *optional):
            if name not in arrays:
                raise _inconsistent(f"{name!r} is missing")
        items = IdIndex(arrays["item_text"], arrays["item_offsets"], checked=artifact.verified)
        found = cls(
            version,
            IdIndex(arrays["user_text"], arrays["user_offsets"], checked=artifact.verified),
            items,
            {name: arrays[name] for name in (*_REQUIRED, *_OPTIONAL) if name in arrays},
            ItemItemWeights(*(arrays[name] for name in _NEIGHBORS)) if with_neighbors else None,
            _read_fold_in(artifact) if folds_in else None,
            Attributes.from_arrays(artifact.header, arrays, len(items), checked=artifact.verified),
        )
        if not artifact.verified:
            found._validate()
        return found

    def item_norms(self) -> NDArray[np.float32]:
        """Of each item's factors, shape (items,); a file of an earlier release does not hold them."""
        if "item_norms" in self.arrays:
            return self.arrays["item_norms"]
        return column_norms(self.arrays["item_factors"])

    def _validate(self) -> None:
        users, items, arrays = len(self.users), len(self.items), self.arrays
        factors, counts = (arrays["user_factors"], arrays["item_factors"]), arrays["item_counts"]
        sound = (
            all(one.ndim == 2 and one.dtype == np.float32 for one in factors)
            and factors[0].shape[0] == users
            and factors[1].shape == (factors[0].shape[1], items)
            and _is_csr(arrays["seen_indptr"], arrays["seen_indices"], users, items)
            and counts.shape == (items,)
            and counts.dtype.kind == "i"
        )
        vectors = {"seen_strengths": len(arrays["seen_indices"]), "item_norms": items, "item_recent": items}
        sound = sound and all(
            arrays[name].shape == (length,) and arrays[name].dtype == np.float32
            for name, length in vectors.items()
            if name in arrays
        )
        if not sound:
            raise _inconsistent("their shapes differ")
        if self.fold_in is not None and not self.fold_in.fits(factors[1].shape):
            raise _inconsistent("what is to fold users in does not fit")
        if "item_norms" in arrays and not np.allclose(arrays["item_norms"], column_norms(factors[1]), 1e-3, 1e-20):
            raise _inconsistent("the norms of the items are not theirs")
        largest_score = _max_abs(factors[0]) * _max_abs(factors[1]) * len(factors[1])
        if self.neighbors is not None:
            largest_score += self._max_neighbor_score(self.neighbors)
        if largest_score > float(np.finfo(np.float32).max):
            raise _inconsistent("their scores may be infinite")

    def _max_neighbor_score(self, neighbors: ItemItemWeights) -> float:
        """A score that neighbours never exceed; they are required to fit first."""
        items, seen = len(self.items), self.arrays["seen_indices"]
        sound = (
            _is_csr(neighbors.indptr, neighbors.indices, items, items)
            and neighbors.weights.shape == neighbors.indices.shape
            and neighbors.confidences.shape == seen.shape
            and neighbors.weights.dtype == neighbors.confidences.dtype == np.float32
        )
        if not sound:
            raise _inconsistent("the shapes of the neighbours differ")
        longest = int(np.diff(self.arrays["seen_indptr"]).max(initial=0))
        return _max_abs(neighbors.weights) * _max_abs(neighbors.confidences) * longest


def column_norms(item_factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean norms, shape (items,), of factors of shape (k, items)."""
    squares: NDArray[np.float32] = np.einsum("ki,ki->i", item_factors, item_factors)
    return np.sqrt(squares)


def _read_fold_in(artifact: Artifact) -> FoldIn:
    try:
        return FoldIn.from_header(artifact.header["fold_in"], *(artifact.arrays[name] for name in _FOLD_IN))
    except ValueError as error:
        raise _inconsistent(f"how to fold users in is not known: {error}") from None


def _max_abs(numbers: NDArray[Any]) -> float:
    """The largest magnitude."""
    return max(float(numbers.max(initial=0)), -float(numbers.min(initial=0)))


def _is_csr(indptr: NDArray[Any], indices: NDArray[Any], rows: int, columns: int) -> bool:
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
