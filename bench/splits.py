"""Interactions of a CSV file, and train/test splits that are written to a file for other processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.evaluation.splitting import hold_out
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.training.jobs import TrainingJob
from recserver._internal.training.worker.evaluate_candidate import save_holdout

MAX_USERS = 5_000
"""Evaluated users; more than in a training, so that small differences become visible."""


def training_job(
    csv: Path, algorithm: str = "nmf", hyperparameters: dict[str, Any] | None = None, **fields: Any
) -> TrainingJob:
    """A training job for a CSV file with the columns user_id, item_id and, optionally, rating and timestamp."""
    with csv.open(encoding="utf-8") as file:
        columns = [name.strip().strip('"') for name in file.readline().split(",")]
    aliases = {"userId": "user_id", "movieId": "item_id"}
    entry: dict[str, Any] = {"type": "csv", "path": str(csv)}
    if renames := {name: aliases[name] for name in columns if name in aliases}:
        entry["rename_columns"] = renames
    if "timestamp" in columns:
        entry["timestamp_column"] = "timestamp"
    return TrainingJob(
        model_id="m",
        model_version=1,
        algorithm=algorithm,
        hyperparameters=hyperparameters or {},
        data_chef_id="c",
        data_chef=entry,
        policy=SourcePolicy(data_dir=csv.parent),
        **{"out": csv.parent / "unused", **fields},
    )


def read_interactions(csv: str | Path) -> Interactions:
    """All interactions of a CSV file."""
    from recserver._internal.training.ingest.source_reader import collect

    return collect(training_job(Path(csv).resolve()), lambda _: None).interactions


def write_split(csv: str, path: str, seed: str, method: str) -> Callable[[], dict[str, Any]]:
    """For :mod:`bench.fresh_process`: hold out a fifth of each user's interactions, and write both parts.

    Args:
        method: ``random``, or ``time`` for the latest interactions.
    """

    def write() -> dict[str, Any]:
        interactions = read_interactions(csv)
        if method == "random":
            interactions = replace(interactions, times=None)
        holdout = hold_out(interactions, max_pairs=2**40, max_users=MAX_USERS, seed=int(seed))
        assert holdout is not None, "no user has two interactions"
        save_holdout(holdout, Path(path))
        return {
            "pairs": interactions.n_pairs,
            "users": len(interactions.users),
            "items": len(interactions.items),
            "evaluated users": len(holdout.users),
        }

    return write


def subset(interactions: Interactions, mask: NDArray[np.bool_]) -> Interactions:
    """Some of the interactions, with the users and the items that occur in them.

    Args:
        mask: shape (pairs,); True for those to include.
    """
    rows = np.repeat(np.arange(len(interactions.users)), np.diff(interactions.indptr))[mask]
    users, owners = np.unique(rows, return_inverse=True)
    items, columns = np.unique(interactions.indices[mask], return_inverse=True)
    return replace(
        interactions,
        users=[interactions.users[user] for user in users.tolist()],
        items=[interactions.items[item] for item in items.tolist()],
        indptr=np.searchsorted(owners, np.arange(len(users) + 1)).astype(np.int64),
        indices=columns.astype(np.int32),
        ratings=interactions.ratings[mask],
        rows_used=int(mask.sum()),
        times=None if interactions.times is None else interactions.times[mask],
    )
