"""Trained models as files that other tools can read and write: numpy's ``.npz``, and ``.safetensors``.

Both hold arrays by name: ``user_factors`` (users x k), ``item_factors`` (items x k), the ids as UTF-8 bytes and
offsets (``user_text``, ``user_offsets``, ``item_text``, ``item_offsets``), the seen items of users as CSR
(``seen_indptr``, ``seen_indices``), and ``item_counts``, the popularity of items. Item-item weights are CSR too
(``neighbor_indptr``, ``neighbor_indices``, ``neighbor_weights``), with a confidence for each seen pair
(``seen_strengths``); see :class:`recserver._internal.algorithms.item_item_weights.ItemItemWeights`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.interactions import to_indptr
from recserver._internal.cli.extension_arrays import pack_extras
from recserver._internal.core.errors import InvalidInput, quoted
from recserver._internal.core.validation.values import entity_id
from recserver._internal.recommend.model.model_arrays import column_norms
from recserver._internal.storage.atomic_files import remove_files, replace_durably, temporary_path
from recserver._internal.storage.model_file import MAX_FILE_BYTES, Artifact
from recserver._internal.storage.model_file.id_table import pack_ids

NamedArrays: TypeAlias = dict[str, NDArray[Any]]

FORMATS = "npz", "safetensors"


def export_arrays(artifact: Artifact) -> NamedArrays:
    """The arrays of a model file, with item factors in rows as other tools expect them."""
    arrays = artifact.arrays | {"item_factors": np.ascontiguousarray(artifact.arrays["item_factors"].T)}
    return arrays | pack_extras(artifact, arrays)


def write(path: Path, arrays: Mapping[str, NDArray[Any]], file_format: str) -> None:
    """Write a file atomically, replacing an existing one.

    Raises:
        InvalidInput: if it cannot be written.
    """
    temporary = temporary_path(path)
    try:
        if file_format == "safetensors":
            _safetensors().save_file(dict(arrays), temporary)
        else:
            with temporary.open("xb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # no array is named allow_pickle
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        replace_durably(temporary, path)
    except OSError as error:
        raise InvalidInput(f"{quoted(path)} cannot be written ({error.strerror}): check its folder.") from None
    finally:
        remove_files([temporary])


def read(path: Path, file_format: str) -> NamedArrays:
    """The arrays of a file. Nothing is unpickled.

    Raises:
        InvalidInput: if the file does not have this format, or cannot be read.
    """
    if file_format not in FORMATS:
        raise InvalidInput(f"The format of {quoted(path)} is unknown: add --format npz or --format safetensors.")
    if not path.is_file():
        raise InvalidInput(f"There is no file {quoted(path)}: check the path.")
    try:
        return _read_npz(path) if file_format == "npz" else dict(_safetensors().load_file(path))
    except InvalidInput:
        raise
    except (OSError, MemoryError) as error:
        raise InvalidInput(f"{quoted(path)} cannot be read ({error}): check the file and the memory.") from None
    except Exception as error:  # the two readers raise a dozen kinds of exceptions
        raise InvalidInput(
            f"{quoted(path)} is not a valid {file_format} file of arrays ({error}): write it again."
        ) from None


def import_arrays(arrays: Mapping[str, NDArray[Any]]) -> NamedArrays:
    """Convert arrays that another tool may have written to those of a model file, sorted by id.

    Ids may also be arrays of text or integers, ``user_ids`` and ``item_ids``. ``seen_*``, ``item_counts`` and
    item-item weights are optional.

    Raises:
        InvalidInput: if an array is missing, or arrays do not match.
    """
    users, user_rank, user_order = _ids(arrays, "user")
    items, item_rank, item_order = _ids(arrays, "item")
    user_factors, item_factors = _factors(arrays, "user", len(users)), _factors(arrays, "item", len(items))
    if user_factors.shape[1] != item_factors.shape[1]:
        raise _invalid(f"users have {user_factors.shape[1]} factors, but items have {item_factors.shape[1]}")
    by_component = np.ascontiguousarray(item_factors[item_order].T)
    indptr, indices, pair_order = _seen(arrays, user_rank, item_rank)
    counts = _integers(arrays, "item_counts") if "item_counts" in arrays else None
    if counts is not None and (counts.shape != (len(items),) or (counts < 0).any()):
        raise _invalid("item_counts must be one count per item")
    user_text, user_offsets = pack_ids(users)
    item_text, item_offsets = pack_ids(items)
    return {
        "user_text": user_text,
        "user_offsets": user_offsets,
        "item_text": item_text,
        "item_offsets": item_offsets,
        "user_factors": np.ascontiguousarray(user_factors[user_order]),
        "item_factors": by_component,
        "item_norms": column_norms(by_component),
        "seen_indptr": indptr,
        "seen_indices": indices,
        "item_counts": np.bincount(indices, minlength=len(items)) if counts is None else counts[item_order],
        **_neighbors(arrays, item_rank, pair_order),
    }


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise InvalidInput("safetensors is not installed: pip install 'recserver[safetensors]'.") from None
    return safetensors.numpy


def _read_npz(path: Path) -> NamedArrays:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_FILE_BYTES:
        raise InvalidInput(
            f"{quoted(path)} holds {size} bytes, more than the {MAX_FILE_BYTES} allowed: make it smaller."
        )
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _invalid(reason: str) -> InvalidInput:
    return InvalidInput(f"The file is not a valid model: {reason}. Correct it and write it again.")


def _required(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in arrays:
        raise _invalid(f"{name} is missing")
    return arrays[name]


def _integers(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.int64]:
    array = _required(arrays, name)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise _invalid(f"{name} is not a one-dimensional array of integers")
    return array.astype(np.int64)


def _ids(arrays: Mapping[str, NDArray[Any]], kind: str) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """The ids sorted by their bytes; the new index of each old one; the old index of each new one."""
    try:
        ids = [entity_id(text) for text in _texts(arrays, kind)]
    except ValueError as error:  # UnicodeDecodeError is one
        raise _invalid(f"a {kind} id cannot be used, {error}") from None
    if len(set(ids)) < len(ids):
        raise _invalid(f"a {kind} id occurs twice")
    encoded = [text.encode() for text in ids]
    order = np.array(sorted(range(len(ids)), key=encoded.__getitem__), np.int64)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(ids))
    return [ids[index] for index in order.tolist()], rank, order


def _texts(arrays: Mapping[str, NDArray[Any]], kind: str) -> list[str]:
    if (listed := arrays.get(f"{kind}_ids")) is not None:
        if listed.ndim != 1 or listed.dtype.kind not in "USiu":
            raise _invalid(f"{kind}_ids is not a one-dimensional array of text or integers")
        return [value.decode() if isinstance(value, bytes) else str(value) for value in listed.tolist()]
    text, offsets = _required(arrays, f"{kind}_text"), _integers(arrays, f"{kind}_offsets")
    if text.ndim != 1 or text.dtype != np.uint8:
        raise _invalid(f"{kind}_text is not a one-dimensional array of bytes")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(text) or (np.diff(offsets) < 0).any():
        raise _invalid(f"{kind}_offsets do not match {kind}_text")
    content, ends = text.tobytes(), offsets.tolist()
    return [content[start:end].decode() for start, end in pairwise(ends)]


def _factors(arrays: Mapping[str, NDArray[Any]], kind: str, count: int) -> NDArray[np.float32]:
    array = _required(arrays, f"{kind}_factors")
    valid = array.dtype.kind in "fiu" and array.ndim == 2 and len(array) == count
    if not valid or not (array.shape[1] or "neighbor_weights" in arrays):
        raise _invalid(f"{kind}_factors must be numbers of shape ({count}, k), not {array.dtype} of {array.shape}")
    return _finite(array, f"{kind}_factors")


def _finite(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise _invalid(f"{name} contain NaN or infinity")
    return numbers


def _neighbors(
    arrays: Mapping[str, NDArray[Any]], item_rank: NDArray[np.int64], pair_order: NDArray[np.int64]
) -> NamedArrays:
    """Item-item weights in the new order; empty if there are none.

    Args:
        pair_order: the old index of each seen pair.
    """
    if not any(name in arrays for name in ("neighbor_indptr", "neighbor_indices", "neighbor_weights")):
        return {}
    items = len(item_rank)
    indptr, indices = _integers(arrays, "neighbor_indptr"), _integers(arrays, "neighbor_indices")
    _check_csr(indptr, indices, (items, items), "neighbor", "items")
    lengths = {"neighbor_weights": len(indices), "seen_strengths": len(arrays.get("seen_indices", ()))}
    for name, length in lengths.items():
        if _required(arrays, name).shape != (length,) or arrays[name].dtype.kind not in "fiu":
            raise _invalid(f"{name} must be numbers of shape ({length},)")
    weights, confidences = (_finite(arrays[name], name) for name in lengths)
    rows, columns = np.repeat(item_rank, np.diff(indptr)), item_rank[indices]
    order = np.lexsort((columns, rows))
    return {
        "neighbor_indptr": to_indptr(np.bincount(rows, minlength=items)),
        "neighbor_indices": columns[order].astype(np.int32),
        "neighbor_weights": weights[order],
        "seen_strengths": confidences[pair_order],
    }


def _check_csr(
    indptr: NDArray[np.int64], indices: NDArray[np.int64], shape: tuple[int, int], name: str, of: str
) -> None:
    """Raise InvalidInput unless these are compressed sparse rows of this shape, one row for each of ``of``."""
    ends = indptr.shape == (shape[0] + 1,) and indptr[0] == 0 and indptr[-1] == len(indices)
    if not ends or (np.diff(indptr) < 0).any():
        raise _invalid(f"{name}_indptr does not match {name}_indices and the {of}")
    if len(indices) and not 0 <= indices.min() <= indices.max() < shape[1]:
        raise _invalid(f"{name}_indices refer to items that do not exist")


def _seen(
    arrays: Mapping[str, NDArray[Any]], user_rank: NDArray[np.int64], item_rank: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """The seen items of users as sparse rows in the new order, each pair once; and the old index of each pair."""
    users, items = len(user_rank), len(item_rank)
    if "seen_indptr" not in arrays and "seen_indices" not in arrays:
        return np.zeros(users + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64)
    indptr, indices = _integers(arrays, "seen_indptr"), _integers(arrays, "seen_indices")
    _check_csr(indptr, indices, (users, items), "seen", "users")
    rows = np.repeat(user_rank, np.diff(indptr))
    pairs, order = np.unique(rows * items + item_rank[indices], return_index=True)  # sorted, without duplicates
    return to_indptr(np.bincount(pairs // items, minlength=users)), (pairs % items).astype(np.int32), order
