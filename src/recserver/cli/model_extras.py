"""What a model file holds beside what other tools know: fold-in, attributes of items, what was popular of late.

An export carries it along as it is. It comes back with an import if users, items, their factors and what was seen
are what they were, for it says nothing about others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver.core.errors import InvalidInput
from recserver.recommend.model.attribute_arrays import ARRAY_NAMES as OF_ATTRIBUTES
from recserver.recommend.model.attribute_arrays import HEADER_KEY as ATTRIBUTES
from recserver.storage.model_file import Artifact

EXTRAS_ARRAY = "recserver"
"""The array that holds it: JSON as bytes."""

EXTRA_HEADERS = "fold_in", ATTRIBUTES

EXTRA_ARRAYS = "fold_in_inputs", "fold_in_gram", "item_recent", "seen_strengths", *OF_ATTRIBUTES

DIGESTED_ARRAYS = (
    "user_text", "user_offsets", "item_text", "item_offsets", "item_factors", "seen_indptr", "seen_indices",
)  # fmt: skip

NamedArrays = Mapping[str, NDArray[Any]]


def pack_extras(packed: Artifact, arrays: NamedArrays) -> dict[str, NDArray[Any]]:
    """An array for an export of ``parts`` that brings the rest of a model file along."""
    header = {name: packed.header[name] for name in EXTRA_HEADERS if name in packed.header}
    told = json.dumps({"header": header, "belongs_to": _digest(arrays)})
    return {EXTRAS_ARRAY: np.frombuffer(told.encode(), np.uint8)}


def unpack_extras(arrays: NamedArrays) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Header and arrays that an export carried along, all of which are yet to be checked; None if what they belong
    to has changed since.

    Raises:
        InvalidInput: if that is not as an export wrote it.
    """
    if EXTRAS_ARRAY not in arrays:
        return {}, {}
    try:
        told = json.loads(arrays[EXTRAS_ARRAY].tobytes())
        header, digest = dict(told["header"]), told["belongs_to"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidInput(
            f"The array {EXTRAS_ARRAY!r} is not as recserver models export wrote it: leave it out, or "
            "export again."
        ) from None
    if digest != _digest(arrays):
        return None
    return header, {name: arrays[name] for name in EXTRA_ARRAYS if name in arrays}


def _digest(arrays: NamedArrays) -> str:
    digest = hashlib.sha256()
    for name in DIGESTED_ARRAYS:
        array = np.ascontiguousarray(arrays.get(name, ()))
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
