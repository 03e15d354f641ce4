"""What exports leave, and what they should: rows as ``(user_id, rank, item_id, score)``."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.pipeline import recommend
from recserver._internal.recommend.query import Query
from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.model_file.id_table import pack_ids
from recserver._internal.training.export.export_job import COLUMNS

Row = tuple[str, int, str, float]

PLAIN = Query()

ODD_IDS = [
    "ann", "Ann", "ann ", "änn", 'a"b', "a,b", "a;b\tc", "two\nlines", "r\r\nn", "=1+1", "NA", "007",
    "\N{EURO SIGN}😀",
]  # fmt: skip
"""Ids that some format or some database takes for another one."""


def wanted(path: Path, query: Query = PLAIN) -> list[Row]:
    """What ``recommend`` says for every user of the model in a file, one after the other."""

    def look() -> list[Row]:
        _, model = load_model(path)
        return [
            (user, rank, item, score)
            for user in model.users
            for rank, (item, score) in enumerate(recommend(model, user, query).items, 1)
        ]

    with ThreadPoolExecutor(1) as elsewhere:  # where it may block, whoever calls
        return elsewhere.submit(look).result()


def in_file(path: Path, model_id: str, version: int = 1) -> list[Row]:
    """The rows of an exported file, of which all must be of that version."""
    with ThreadPoolExecutor(1) as elsewhere:
        rows = elsewhere.submit(_read, path).result()
    assert {(row["model_id"], int(row["model_version"])) for row in rows} <= {(model_id, version)}
    return [(row["user_id"], int(row["rank"]), row["item_id"], float(row["score"])) for row in rows]


def _read(path: Path) -> Sequence[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        assert table.column_names == list(COLUMNS)
        return list(table.to_pylist())
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in content.decode().split("\n")[:-1]]
    reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
    assert reader.fieldnames == list(COLUMNS)
    return list(reader)


def write_crowd(path: Path, user_ids: Sequence[str], item_ids: Sequence[str], *, version: int = 1) -> Path:
    """A model of these users and items, random but the same each time; nobody has seen anything."""
    users, items = sorted(user_ids, key=str.encode), sorted(item_ids, key=str.encode)
    random = np.random.default_rng(version)
    user_text, user_offsets = pack_ids(users)
    item_text, item_offsets = pack_ids(items)
    arrays = {
        "user_text": user_text, "user_offsets": user_offsets, "item_text": item_text, "item_offsets": item_offsets,
        "user_factors": random.random((len(users), 2), np.float32),
        "item_factors": random.random((2, len(items)), np.float32),
        "seen_indptr": np.zeros(len(users) + 1, np.int64), "seen_indices": np.zeros(0, np.int32),
        "item_counts": np.ones(len(items), np.int64),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(artifact.pack, path, {"model_id": path.stem, "model_version": version}, arrays).result()
    return path


def put_crowd(models: Path, users: int = 200_000) -> Path:
    """The model ``crowd`` of so many users, whose export takes some seconds."""
    path = write_crowd(models / "crowd.pkl", [f"u{number}" for number in range(users)], ["a", "b", "c", "d"])
    (models / "crowd_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
    return path
