"""Trained models as files of other tools: numpy's ``.npz``, and ``.safetensors``.

Both hold arrays by name: ``user_factors`` (users x k), ``item_factors`` (items x k), the ids as UTF-8 bytes and
offsets (``user_text``, ``user_offsets``, ``item_text``, ``item_offsets``), what users have seen as compressed
sparse rows (``seen_indptr``, ``seen_indices``), and ``item_counts``, from which popularity follows. Models with
item-item weights hold them as compressed sparse rows as well (``neighbor_indptr``, ``neighbor_indices``,
``neighbor_weights``), and what each seen pair counts (``seen_strengths``):
:class:`recserver.algorithms.neighbors.Neighbors`.
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

from recserver.cli.model_extras import pack_extras
from recserver.core.errors import InvalidInput, quoted
from recserver.core.validation.values import entity_id
from recserver.recommend.model.model_arrays import column_norms
from recserver.storage.atomic_files import remove_files, replace_durably, temporary_path
from recserver.storage.model_file import MAX_FILE_BYTES, Artifact
from recserver.storage.model_file.id_table import pack_ids

NamedArrays: TypeAlias = dict[str, NDArray[Any]]

FORMATS = "npz", "safetensors"


def export_arrays(packed: Artifact) -> NamedArrays:
    """The arrays of a model file, factors of items in rows as other tools have them."""
    parts = packed.arrays | {"item_factors": np.ascontiguousarray(packed.arrays["item_factors"].T)}
    return parts | pack_extras(packed, parts)


def write(path: Path, arrays: Mapping[str, NDArray[Any]], kind: str) -> None:
    """Write ``path`` whole or not at all, replacing what was there.

    Raises:
        InvalidInput: if it cannot be written.
    """
    temporary = temporary_path(path)
    try:
        if kind == "safetensors":
            _safetensors().save_file(dict(arrays), temporary)
        else:
            with temporary.open("xb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # no name of ours is allow_pickle
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        replace_durably(temporary, path)
    except OSError as error:
        raise InvalidInput(f"{quoted(path)} cannot be written ({error.strerror}): check its folder.") from None
    finally:
        remove_files([temporary])


def read(path: Path, kind: str) -> NamedArrays:
    """The arrays of a file. Nothing in it is unpickled.

    Raises:
        InvalidInput: if it is none of that kind, or cannot be read.
    """
    if kind not in FORMATS:
        raise InvalidInput(
            f"{quoted(path)} ends in no known format: say with --format if it is npz or safetensors."
        )
    if not path.is_file():
        raise InvalidInput(
            f"There is no file {quoted(path)}: name one that was exported, or written by another tool."
        )
    try:
        return _read_npz(path) if kind == "npz" else dict(_safetensors().load_file(path))
    except InvalidInput:
        raise
    except (OSError, MemoryError) as error:
        raise InvalidInput(f"{quoted(path)} cannot be read ({error}): check the file and the memory.") from None
    except Exception as error:  # each of the two readers has a dozen ways to say it
        raise InvalidInput(
            f"{quoted(path)} is no {kind} file of plain arrays ({error}): write it again."
        ) from None


def import_arrays(arrays: Mapping[str, NDArray[Any]]) -> NamedArrays:
    """The arrays of a model file, ids in order, of those that another tool wrote.

    Ids may also be arrays of text, ``user_ids`` and ``item_ids``; ``seen_*``, ``item_counts`` and what belongs to
    item-item weights may be missing.

    Raises:
        InvalidInput: if something is missing, or does not fit together.
    """
    users, user_rank, user_order = _ids(arrays, "user")
    items, item_rank, item_order = _ids(arrays, "item")
    user_factors, item_factors = _factors(arrays, "user", len(users)), _factors(arrays, "item", len(items))
    if user_factors.shape[1] != item_factors.shape[1]:
        raise _invalid(f"users have {user_factors.shape[1]} factors and items {item_factors.shape[1]}")
    by_component = np.ascontiguousarray(item_factors[item_order].T)
    indptr, indices, pair_order = _seen(arrays, user_rank, item_rank)
    counts = _integers(arrays, "item_counts") if "item_counts" in arrays else None
    if counts is not None and (counts.shape != (len(items),) or (counts < 0).any()):
        raise _invalid("item_counts are not one count for each item")
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
        held = sum(one.file_size for one in archive.infolist())
    if held > MAX_FILE_BYTES:
        raise InvalidInput(
            f"{quoted(path)} holds {held} bytes, more than the {MAX_FILE_BYTES} allowed: make it smaller."
        )
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _invalid(what: str) -> InvalidInput:
    return InvalidInput(f"The file holds no model: {what}. Correct it and write it again.")


def _required(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in arrays:
        raise _invalid(f"{name} is missing")
    return arrays[name]


def _integers(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.int64]:
    array = _required(arrays, name)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise _invalid(f"{name} is no row of whole numbers")
    return array.astype(np.int64)


def _ids(arrays: Mapping[str, NDArray[Any]], kind: str) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """The ids in order of their bytes; the new place of each old one; the old place of each new one."""
    try:
        ids = [entity_id(one) for one in _texts(arrays, kind)]
    except ValueError as error:  # UnicodeDecodeError is one
        raise _invalid(f"an id of a {kind} cannot be used, {error}") from None
    if len(set(ids)) < len(ids):
        raise _invalid(f"an id of a {kind} stands there twice")
    encoded = [one.encode() for one in ids]
    order = np.array(sorted(range(len(ids)), key=encoded.__getitem__), np.int64)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(ids))
    return [ids[place] for place in order.tolist()], rank, order


def _texts(arrays: Mapping[str, NDArray[Any]], kind: str) -> list[str]:
    if (listed := arrays.get(f"{kind}_ids")) is not None:
        if listed.ndim != 1 or listed.dtype.kind not in "USiu":
            raise _invalid(f"{kind}_ids is no row of texts or whole numbers")
        return [one.decode() if isinstance(one, bytes) else str(one) for one in listed.tolist()]
    text, offsets = _required(arrays, f"{kind}_text"), _integers(arrays, f"{kind}_offsets")
    if text.ndim != 1 or text.dtype != np.uint8:
        raise _invalid(f"{kind}_text is no row of bytes")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(text) or (np.diff(offsets) < 0).any():
        raise _invalid(f"{kind}_offsets do not fit {kind}_text")
    content, ends = text.tobytes(), offsets.tolist()
    return [content[start:end].decode() for start, end in pairwise(ends)]


def _factors(arrays: Mapping[str, NDArray[Any]], kind: str, count: int) -> NDArray[np.float32]:
    array = _required(arrays, f"{kind}_factors")
    sound = array.dtype.kind in "fiu" and array.ndim == 2 and len(array) == count
    if not sound or not (array.shape[1] or "neighbor_weights" in arrays):
        raise _invalid(f"{kind}_factors are not numbers of shape ({count}, k), but {array.dtype} of {array.shape}")
    return _finite(array, f"{kind}_factors")


def _finite(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise _invalid(f"{name} hold NaN or infinity")
    return numbers


def _neighbors(
    arrays: Mapping[str, NDArray[Any]], item_rank: NDArray[np.int64], pair_order: NDArray[np.int64]
) -> NamedArrays:
    """Item-item weights in the new order; nothing if there are none.

    Args:
        pair_order: the old place of each seen pair.
    """
    if not any(name in arrays for name in ("neighbor_indptr", "neighbor_indices", "neighbor_weights")):
        return {}
    items = len(item_rank)
    indptr, indices = _integers(arrays, "neighbor_indptr"), _integers(arrays, "neighbor_indices")
    _check_csr(indptr, indices, (items, items), "neighbor", "items")
    lengths = {"neighbor_weights": len(indices), "seen_strengths": len(arrays.get("seen_indices", ()))}
    for name, length in lengths.items():
        if _required(arrays, name).shape != (length,) or arrays[name].dtype.kind not in "fiu":
            raise _invalid(f"{name} are not {length} numbers in a row")
    weights, strengths = (_finite(arrays[name], name) for name in lengths)
    rows, columns = np.repeat(item_rank, np.diff(indptr)), item_rank[indices]
    order = np.lexsort((columns, rows))
    return {
        "neighbor_indptr": np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=items))]).astype(np.int64),
        "neighbor_indices": columns[order].astype(np.int32),
        "neighbor_weights": weights[order],
        "seen_strengths": strengths[pair_order],
    }


def _check_csr(
    indptr: NDArray[np.int64], indices: NDArray[np.int64], shape: tuple[int, int], name: str, of: str
) -> None:
    """Refuse what are no compressed sparse rows of this shape."""
    if indptr.shape != (shape[0] + 1,) or indptr[0] != 0 or indptr[-1] != len(indices):
        raise _invalid(f"{name}_indptr does not fit {name}_indices and the {of}")
    if (np.diff(indptr) < 0).any():
        raise _invalid(f"{name}_indptr does not fit {name}_indices and the {of}")
    if len(indices) and not 0 <= indices.min() <= indices.max() < shape[1]:
        raise _invalid(f"{name}_indices name items that are not there")


def _seen(
    arrays: Mapping[str, NDArray[Any]], user_rank: NDArray[np.int64], item_rank: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """What users have seen, as sparse rows of the new order, each pair once; and the old place of each pair."""
    users, items = len(user_rank), len(item_rank)
    if "seen_indptr" not in arrays and "seen_indices" not in arrays:
        return np.zeros(users + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64)
    indptr, indices = _integers(arrays, "seen_indptr"), _integers(arrays, "seen_indices")
    _check_csr(indptr, indices, (users, items), "seen", "users")
    rows = np.repeat(user_rank, np.diff(indptr))
    pairs, order = np.unique(rows * items + item_rank[indices], return_index=True)  # in order, and each once
    found = np.concatenate([[0], np.cumsum(np.bincount(pairs // items, minlength=users))]) if items else indptr
    columns = pairs % items if items else indices
    return found.astype(np.int64), columns.astype(np.int32), order
