"""What algorithms are compared on: interactions of a file, split, and kept so that any process finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.evaluation.splitting import hold_out
from recserver.algorithms.interactions import Interactions
from recserver.chefs.source_policy import SourcePolicy
from recserver.training.jobs import TrainingJob
from recserver.training.worker.evaluate_candidate import save_holdout

MOST_USERS = 5_000
"""Evaluated users: twice as many as in a training, for a benchmark is to tell small differences."""


def job_of(
    csv: Path, algorithm: str = "nmf", hyperparameters: dict[str, Any] | None = None, **more: Any
) -> TrainingJob:
    """A training on a file with the columns user_id, item_id and perhaps rating and timestamp."""
    with csv.open(encoding="utf-8") as file:
        columns = [name.strip().strip('"') for name in file.readline().split(",")]
    renamed = {"userId": "user_id", "movieId": "item_id"}
    entry: dict[str, Any] = {"type": "csv", "path": str(csv)}
    if renames := {name: renamed[name] for name in columns if name in renamed}:
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
        **{"out": csv.parent / "unused", **more},
    )


def interactions_of(csv: str | Path) -> Interactions:
    """All of a file."""
    from recserver.training.ingest.source_reader import collect

    return collect(job_of(Path(csv).resolve()), lambda _: None).interactions


def splitting(csv: str, path: str, seed: str, way: str) -> Callable[[], dict[str, Any]]:
    """For :mod:`bench.child`: hold out a fifth of each user's pairs, and keep both parts in ``path``.

    Args:
        way: ``random``, as if there were no times, or ``time``: the latest ones.
    """

    def work() -> dict[str, Any]:
        interactions = interactions_of(csv)
        if way == "random":
            interactions = replace(interactions, times=None)
        holdout = hold_out(interactions, max_pairs=2**40, max_users=MOST_USERS, seed=int(seed))
        assert holdout is not None, "nobody has two pairs"
        save_holdout(holdout, Path(path))
        return {
            "pairs": interactions.n_pairs,
            "users": len(interactions.users),
            "items": len(interactions.items),
            "evaluated users": len(holdout.users),
        }

    return work


def subset(interactions: Interactions, kept: NDArray[np.bool_]) -> Interactions:
    """Some of the pairs, with the users and the items that occur in them.

    Args:
        kept: shape (pairs,).
    """
    rows = np.repeat(np.arange(len(interactions.users)), np.diff(interactions.indptr))[kept]
    users, owners = np.unique(rows, return_inverse=True)
    items, columns = np.unique(interactions.indices[kept], return_inverse=True)
    return replace(
        interactions,
        users=[interactions.users[user] for user in users.tolist()],
        items=[interactions.items[item] for item in items.tolist()],
        indptr=np.searchsorted(owners, np.arange(len(users) + 1)).astype(np.int64),
        indices=columns.astype(np.int32),
        ratings=interactions.ratings[kept],
        rows_used=int(kept.sum()),
        times=None if interactions.times is None else interactions.times[kept],
    )
