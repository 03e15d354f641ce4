"""The part of a model file that other tools do not know: fold-in, item attributes, recent popularity.

An export includes it unchanged. An import restores it if users, items, their factors and the seen items are
unchanged, because it describes those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver._internal.core.errors import InvalidInput
from recserver._internal.recommend.model import attribute_arrays
from recserver._internal.storage.model_file import Artifact

EXTRAS_ARRAY = "recserver"
"""Name of the array that holds the extra header and a digest, as bytes of JSON."""

EXTRA_HEADERS = "fold_in", attribute_arrays.HEADER_KEY

EXTRA_ARRAYS = "fold_in_inputs", "fold_in_gram", "item_recent", "seen_strengths", *attribute_arrays.ARRAY_NAMES

DIGESTED_ARRAYS = (
    "user_text", "user_offsets", "item_text", "item_offsets", "item_factors", "seen_indptr", "seen_indices",
)  # fmt: skip

NamedArrays = Mapping[str, NDArray[Any]]


def pack_extras(artifact: Artifact, arrays: NamedArrays) -> dict[str, NDArray[Any]]:
    """The array that an export of ``arrays`` adds to keep the extra header of a model file."""
    header = {name: artifact.header[name] for name in EXTRA_HEADERS if name in artifact.header}
    content = json.dumps({"header": header, "belongs_to": _digest(arrays)})
    return {EXTRAS_ARRAY: np.frombuffer(content.encode(), np.uint8)}


def unpack_extras(arrays: NamedArrays) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """The extra header and arrays of an exported file, not validated; None if the model has changed since.

    Raises:
        InvalidInput: if the extras are damaged.
    """
    if EXTRAS_ARRAY not in arrays:
        return {}, {}
    try:
        content = json.loads(arrays[EXTRAS_ARRAY].tobytes())
        header, digest = dict(content["header"]), content["belongs_to"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidInput(
            f"The array {EXTRAS_ARRAY!r} was not written by recserver models export: remove it, or export again."
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
