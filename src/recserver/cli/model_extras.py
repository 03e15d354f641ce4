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
from recserver.recommend.model.attribute_arrays import ARRAYS as OF_ATTRIBUTES
from recserver.recommend.model.attribute_arrays import HEADER as ATTRIBUTES
from recserver.storage.model_file import Artifact

NAME = "recserver"
"""The array that holds it: JSON as bytes."""

HEADERS = "fold_in", ATTRIBUTES

ARRAYS = "fold_in_inputs", "fold_in_gram", "item_recent", "seen_strengths", *OF_ATTRIBUTES

BELONGS_TO = (
    "user_text", "user_offsets", "item_text", "item_offsets", "item_factors", "seen_indptr", "seen_indices",
)  # fmt: skip

Parts = Mapping[str, NDArray[Any]]


def carried(packed: Artifact, parts: Parts) -> dict[str, NDArray[Any]]:
    """An array for an export of ``parts`` that brings the rest of a model file along."""
    header = {name: packed.header[name] for name in HEADERS if name in packed.header}
    told = json.dumps({"header": header, "belongs_to": _digest(parts)})
    return {NAME: np.frombuffer(told.encode(), np.uint8)}


def brought_back(parts: Parts) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Header and arrays that an export carried along, all of which are yet to be checked; None if what they belong
    to has changed since.

    Raises:
        InvalidInput: if that is not as an export wrote it.
    """
    if NAME not in parts:
        return {}, {}
    try:
        told = json.loads(parts[NAME].tobytes())
        header, digest = dict(told["header"]), told["belongs_to"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidInput(
            f"The array {NAME!r} is not as recserver models export wrote it: leave it out, or export again."
        ) from None
    if digest != _digest(parts):
        return None
    return header, {name: parts[name] for name in ARRAYS if name in parts}


def _digest(parts: Parts) -> str:
    digest = hashlib.sha256()
    for name in BELONGS_TO:
        array = np.ascontiguousarray(parts.get(name, ()))
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
