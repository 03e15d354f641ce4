"""Model files of any size, made without training."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.model_file.id_table import pack_ids


def write_model(path: Path, *, items: int = 20, k: int = 4, version: int = 1, seed: int = 0) -> Path:
    """A model of three users whose answers follow from ``seed``."""
    random = np.random.default_rng(seed)
    user_text, user_offsets = pack_ids([f"u{number}" for number in range(3)])
    item_text, item_offsets = pack_ids([f"i{number:06d}" for number in range(items)])
    arrays: dict[str, Any] = {
        "user_text": user_text,
        "user_offsets": user_offsets,
        "item_text": item_text,
        "item_offsets": item_offsets,
        "user_factors": random.random((3, k), np.float32),
        "item_factors": random.random((k, items), np.float32),
        "seen_indptr": np.array([0, 1, 2, 2], np.int64),
        "seen_indices": np.array([0, items - 1], np.int32),
        "item_counts": np.arange(items, dtype=np.int64),
    }
    with ThreadPoolExecutor(1) as elsewhere:  # where it may block, whoever calls
        elsewhere.submit(artifact.pack, path, {"model_id": path.stem, "model_version": version}, arrays).result()
    return path


def put_model(models: Path, model_id: str, **how: Any) -> Path:
    """A trained model in the folder ``models``; its ``.pkl``."""
    models.mkdir(parents=True, exist_ok=True)
    config = {"algorithm": "nmf", "status": "completed"}
    (models / f"{model_id}_config.json").write_text(json.dumps(config))
    return write_model(models / f"{model_id}.pkl", **how)
