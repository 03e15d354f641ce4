"""Packed models of any size with random factors, written without a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recserver._internal.recommend.model.model_arrays import column_norms
from recserver._internal.storage.model_file import pack
from recserver._internal.storage.model_file.id_table import pack_ids


def write_random_model(path: Path, users: int, items: int, k: int, *, seen: int = 50) -> None:
    """Write a model with sparse non-negative user factors, as NMF fits them, and ``seen`` items for each user."""
    rng = np.random.default_rng(0)
    user_factors = rng.random((users, k), np.float32) * (rng.random((users, k)) < 0.15)
    user_text, user_offsets = pack_ids([f"u{number:08d}" for number in range(users)])
    item_text, item_offsets = pack_ids([f"i{number:08d}" for number in range(items)])
    indices = np.sort(rng.integers(0, items, (users, seen)), axis=1)
    item_factors = rng.random((k, items), np.float32)
    arrays = {
        "user_text": user_text,
        "user_offsets": user_offsets,
        "item_text": item_text,
        "item_offsets": item_offsets,
        "user_factors": user_factors.astype(np.float32),
        "item_factors": item_factors,
        "item_norms": column_norms(item_factors),
        "seen_indptr": np.arange(users + 1, dtype=np.int64) * seen,
        "seen_indices": indices.ravel().astype(np.int32),
        "item_counts": np.bincount(indices.ravel(), minlength=items).astype(np.int64),
    }
    pack(path, {"model_id": "bench", "model_version": 1, "algorithm": "nmf", "model_type": "nmf"}, arrays)


def write_data_folder(folder: Path, users: int, items: int, k: int) -> None:
    """Create a data folder with the trained model ``bench``."""
    models = folder / "models"
    models.mkdir()
    write_random_model(models / "bench.pkl", users, items, k)
    (models / "bench_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
