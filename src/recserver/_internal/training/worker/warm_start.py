"""Warm starts: a training begins with the factors of the previous version where that is possible."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.interactions import Interactions, indices_in
from recserver._internal.algorithms.protocol import Algorithm, WarmStart
from recserver._internal.core.errors import RecServerError
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.storage.model_file import JSON, Artifact, load
from recserver._internal.training.jobs import TrainingJob

MIN_KNOWN_SHARE = 0.8
"""Least share of the pairs that are of known users, and of known items, for a warm start."""
MAX_GROWTH = 1.5
"""Factor by which the number of pairs may have grown or shrunk."""


@dataclass(frozen=True, slots=True)
class PreviousModel:
    """What a training takes from the previous version.

    Attributes:
        warm_start: its factors, for the current users and items; None for a cold start.
        tuned: the hyperparameters that were tuned; empty for a cold start.
        warm_starts: number of trainings since the last cold start, this one included.
    """

    warm_start: WarmStart | None = None
    tuned: dict[str, Any] = field(default_factory=dict)
    warm_starts: int = 0

    def header(self, job: TrainingJob, interactions: Interactions, tuned: dict[str, Any]) -> dict[str, JSON]:
        """The entries of the model file's header that the next training needs."""
        return {"asked": _definition_digest(job, interactions), "chosen": tuned, "warm_starts": self.warm_starts}


def load_previous(job: TrainingJob, algorithm: Algorithm, interactions: Interactions) -> PreviousModel:
    """The previous model of the job, unless its hyperparameters or data differ too much.

    After as many warm starts in a row as ``method`` allows, one start is cold, so that errors do not accumulate.
    """
    if job.previous_model is None or not algorithm.max_warm_starts(job.hyperparameters):
        return PreviousModel()
    try:
        return _from_artifact(load(job.previous_model), job, algorithm, interactions)
    except (RecServerError, OSError, KeyError, TypeError, ValueError):
        return PreviousModel()  # a cold start needs no file; the server reports a damaged one


def _from_artifact(
    artifact: Artifact, job: TrainingJob, algorithm: Algorithm, interactions: Interactions
) -> PreviousModel:
    header, model = artifact.header, Recommender.from_artifact(artifact)  # which validates it
    warm_starts = int(header.get("warm_starts", 0)) + 1
    is_due = 1 <= warm_starts <= algorithm.max_warm_starts(job.hyperparameters)
    if not is_due or header.get("asked") != _definition_digest(job, interactions):
        return PreviousModel()
    tuned = {name: one for name, one in dict(header["chosen"]).items() if job.hyperparameters.get(name) is None}
    algorithm.check({**job.hyperparameters, **tuned})
    users, items = indices_in(model.users, interactions.users), indices_in(model.items, interactions.items)
    factors = _unscaled(model, artifact.arrays.get("item_scale"))
    rank = min(job.hyperparameters["n_components"], len(users), len(items))
    if factors is None or factors.shape[1] != rank or not _is_similar(model, interactions, users >= 0, items >= 0):
        return PreviousModel()
    return PreviousModel(
        WarmStart(_take_rows(model.user_factors, users), _take_rows(factors, items)), tuned, warm_starts
    )


def _is_similar(
    model: Recommender, interactions: Interactions, users: NDArray[np.bool_], items: NDArray[np.bool_]
) -> bool:
    """Whether the data have changed little. ``users`` and ``items`` mark those that the model knows."""
    growth = interactions.n_pairs / max(1, len(model.seen_indices))
    known_users = users @ np.diff(interactions.indptr) / interactions.n_pairs
    known_items = items @ interactions.item_counts() / interactions.n_pairs
    return bool(1 / MAX_GROWTH <= growth <= MAX_GROWTH and min(known_users, known_items) >= MIN_KNOWN_SHARE)


def _unscaled(model: Recommender, scale: NDArray[Any] | None) -> NDArray[np.float32] | None:
    """The items' factors as they were fitted, shape (items, k); None if they cannot be restored.

    They cannot where an item's scale is zero, as only its neighbours count then.
    """
    if scale is None:
        return model.item_factors.T
    if scale.shape != (len(model.items),) or not (scale > 0).all():
        return None
    with np.errstate(over="ignore"):
        factors: NDArray[np.float32] = (model.item_factors / scale).T.astype(np.float32, copy=False)
    return factors if np.isfinite(factors).all() else None


def _take_rows(factors: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows of ``factors`` at ``indices``; zeros at -1."""
    taken = factors[indices]
    taken[indices < 0] = 0
    return np.ascontiguousarray(taken, np.float32)


def definition_json(job: TrainingJob, interactions: Interactions) -> bytes:
    """Everything that decides a fit except the pairs, as JSON."""
    return json.dumps([job.algorithm, job.hyperparameters, interactions.weighted], sort_keys=True).encode()


def _definition_digest(job: TrainingJob, interactions: Interactions) -> str:
    return hashlib.sha256(definition_json(job, interactions)).hexdigest()
