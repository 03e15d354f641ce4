"""A model file of a few users and items, and what is wrong with it if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.model_file.id_table import pack_ids

USERS, ITEMS = ["u0", "u1", "u2"], ["i0", "i1", "i10", "i2", "é"]


def parts() -> dict[str, Any]:
    """The arrays of a sound model: user ``u1`` has seen ``i0`` and ``i2``, ``u2`` has seen everything."""
    user_text, user_offsets = pack_ids(USERS)
    item_text, item_offsets = pack_ids(ITEMS)
    return {
        "user_text": user_text,
        "user_offsets": user_offsets,
        "item_text": item_text,
        "item_offsets": item_offsets,
        "user_factors": np.array([[1, 0], [0, 1], [1, 1]], np.float32),
        "item_factors": np.array([[5, 1, 3, 3, 2], [1, 1, 1, 2, 0]], np.float32),
        "seen_indptr": np.array([0, 0, 2, 7], np.int64),
        "seen_indices": np.array([0, 3, 0, 1, 2, 3, 4], np.int32),
        "item_counts": np.array([2, 1, 1, 2, 1], np.int64),
    }


def packed(path: Path, header: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A model file of :func:`parts` with changes; None leaves an array out."""
    arrays = {name: array for name, array in (parts() | changes).items() if array is not None}
    artifact.pack(path, {"model_version": 3} if header is None else header, arrays)
    return path
