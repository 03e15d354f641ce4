"""When there is something new to learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.training.jobs import TrainingJob
from recserver._internal.training.worker.train import training_digest


def job() -> TrainingJob:
    return TrainingJob(
        model_id="m", model_version=1, algorithm="nmf", hyperparameters={}, data_chef_id="c", data_chef={},
        policy=SourcePolicy(data_dir=Path()), out=Path("out"),
    )  # fmt: skip


def interactions(times: list[float] | None) -> Interactions:
    return Interactions(
        users=["u"],
        items=["a", "b"],
        indptr=np.array([0, 2]),
        indices=np.array([0, 1], np.int32),
        ratings=np.ones(2, np.float32),
        rows_used=2,
        times=None if times is None else np.array(times),
    )


def test_what_people_come_back_to_is_new() -> None:
    """The pairs are the same, and another item is what happened of late."""
    found = [training_digest(job(), interactions(times)) for times in (None, [1, 2], [2, 1])]
    assert len(set(found)) == 3
    assert training_digest(job(), interactions([1, 2])) == found[1]
    assert training_digest(job(), replace(interactions([1, 2]), rows_used=3)) == found[1]
