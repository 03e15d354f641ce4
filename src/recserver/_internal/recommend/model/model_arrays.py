"""Checks of the arrays of a model file against each other, so that no request can fail on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.fold_in import FoldIn
from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.core.errors import UnreadableModel
from recserver._internal.storage.model_file import Artifact
from recserver._internal.storage.model_file.version_numbers import MAX_VERSION, is_version

Arrays = Mapping[str, NDArray[Any]]

_REQUIRED = (
    "user_text", "user_offsets", "item_text", "item_offsets",
    "user_factors", "item_factors", "seen_indptr", "seen_indices", "item_counts",
)  # fmt: skip
_NEIGHBORS = ("neighbor_indptr", "neighbor_indices", "neighbor_weights", "seen_strengths")
_FOLD_IN = ("fold_in_inputs", "fold_in_gram")


def read_parts(artifact: Artifact) -> tuple[int, ItemItemWeights | None, FoldIn | None]:
    """The version of the model in a file; its item-item weights, and how users are folded in, if it has them.

    Raises:
        UnreadableModel: if they are invalid, or an array that every model has is missing.
    """
    version, arrays = artifact.header.get("model_version"), artifact.arrays
    if not is_version(version):
        raise _inconsistent(f"it has no version from 1 to {MAX_VERSION}")
    has_neighbors, has_fold_in = any(name in arrays for name in _NEIGHBORS[:3]), "fold_in" in artifact.header
    required = (*_REQUIRED, *(_NEIGHBORS if has_neighbors else ()), *(_FOLD_IN if has_fold_in else ()))
    if missing := [name for name in required if name not in arrays]:
        raise _inconsistent(f"{missing[0]!r} is missing")
    neighbors = ItemItemWeights(*(arrays[name] for name in _NEIGHBORS)) if has_neighbors else None
    if not has_fold_in:
        return version, neighbors, None
    try:
        fold_in = FoldIn.from_header(artifact.header["fold_in"], *(arrays[name] for name in _FOLD_IN))
    except ValueError as error:
        raise _inconsistent(f"how to fold users in is invalid: {error}") from None
    return version, neighbors, fold_in


def check_arrays(
    arrays: Arrays, users: int, items: int, neighbors: ItemItemWeights | None, fold_in: FoldIn | None
) -> None:
    """Refuse arrays of wrong types or shapes, out of range, or with scores that float32 cannot hold.

    Args:
        users, items: how many ids the file has.

    Raises:
        UnreadableModel: if the arrays are inconsistent.
    """
    user_factors, item_factors, counts = arrays["user_factors"], arrays["item_factors"], arrays["item_counts"]
    consistent = (
        all(factors.ndim == 2 and factors.dtype == np.float32 for factors in (user_factors, item_factors))
        and user_factors.shape[0] == users
        and item_factors.shape == (user_factors.shape[1], items)
        and _is_csr(arrays["seen_indptr"], arrays["seen_indices"], users, items)
        and counts.shape == (items,)
        and counts.dtype.kind == "i"
    )
    vectors = {"seen_strengths": arrays["seen_indices"].size, "item_norms": items, "item_recent": items}
    if not consistent or not all(
        arrays[name].shape == (length,) and arrays[name].dtype == np.float32
        for name, length in vectors.items()
        if name in arrays
    ):
        raise _inconsistent("their shapes differ")
    if fold_in is not None and not fold_in.fits(item_factors.shape):
        raise _inconsistent("the arrays for folding users in have other shapes")
    if "item_norms" in arrays and not np.allclose(arrays["item_norms"], column_norms(item_factors), 1e-3, 1e-20):
        raise _inconsistent("the item norms are not those of the item factors")
    max_score = _max_abs(user_factors) * _max_abs(item_factors) * len(item_factors)
    if neighbors is not None:
        max_score += _max_neighbor_score(neighbors, arrays, items)
    if max_score > float(np.finfo(np.float32).max):
        raise _inconsistent("scores may be infinite")


def column_norms(item_factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean norms, shape (items,), of factors of shape (k, items)."""
    squares: NDArray[np.float32] = np.einsum("ki,ki->i", item_factors, item_factors)
    return np.sqrt(squares)


def _max_neighbor_score(neighbors: ItemItemWeights, arrays: Arrays, items: int) -> float:
    """An upper bound of the scores by neighbors, whose arrays are checked first."""
    consistent = (
        _is_csr(neighbors.indptr, neighbors.indices, items, items)
        and neighbors.weights.shape == neighbors.indices.shape
        and neighbors.weights.dtype == np.float32
    )
    if not consistent:
        raise _inconsistent("the shapes of the neighbors differ")
    longest = int(np.diff(arrays["seen_indptr"]).max(initial=0))
    return _max_abs(neighbors.weights) * _max_abs(neighbors.confidences) * longest


def _max_abs(numbers: NDArray[Any]) -> float:
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
        f"The arrays of the model file are inconsistent ({reason}): train the model again.", reason
    )
