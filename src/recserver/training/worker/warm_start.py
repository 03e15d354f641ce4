"""Warm starts: a retraining begins where the version before it ended, unless something speaks against it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.interactions import Interactions, indices_in
from recserver.algorithms.protocol import Algorithm, WarmStart
from recserver.core.errors import RecServerError
from recserver.recommend.model.recommender import Recommender
from recserver.storage.model_file import JSON, Artifact, load
from recserver.training.jobs import TrainingJob

MIN_KNOWN_SHARE = 0.8
"""Share of the pairs that are of known users, and of known items, below which a start is cold."""
MAX_GROWTH = 1.5
"""By which the number of pairs may have grown or shrunk."""


@dataclass(frozen=True, slots=True)
class PreviousModel:
    """What a training takes from the version before it.

    Attributes:
        start: its factors, for the users and items of now; None for a cold start.
        chosen: hyperparameters that it left to the data, and what was found for them; empty for a cold start.
        warm_starts: how many trainings since the last cold one, this one included.
    """

    warm_start: WarmStart | None = None
    tuned: dict[str, Any] = field(default_factory=dict)
    warm_starts: int = 0

    def header(self, job: TrainingJob, interactions: Interactions, tuned: dict[str, Any]) -> dict[str, JSON]:
        """What the next training needs to know of this one."""
        return {"asked": _request_digest(job, interactions), "chosen": tuned, "warm_starts": self.warm_starts}


def load_previous(job: TrainingJob, method: Algorithm, interactions: Interactions) -> PreviousModel:
    """What to start from: the model file that the job names, unless it is of other hyperparameters or other data.

    After as many warm starts in a row as ``method`` allows one is cold, so that nothing drifts.
    """
    if job.previous_model is None or not method.max_warm_starts(job.hyperparameters):
        return PreviousModel()
    try:
        return _from_artifact(load(job.previous_model), job, method, interactions)
    except (RecServerError, OSError, KeyError, TypeError, ValueError):
        return PreviousModel()  # a cold start needs nothing; the server says what is wrong with the file


def _from_artifact(
    artifact: Artifact, job: TrainingJob, method: Algorithm, interactions: Interactions
) -> PreviousModel:
    header, model = artifact.header, Recommender.from_artifact(artifact)  # which looks whether everything fits
    warm_starts = int(header.get("warm_starts", 0)) + 1
    due = 1 <= warm_starts <= method.max_warm_starts(job.hyperparameters)
    if not due or header.get("asked") != _request_digest(job, interactions):
        return PreviousModel()
    chosen = {name: one for name, one in dict(header["chosen"]).items() if job.hyperparameters.get(name) is None}
    method.check({**job.hyperparameters, **chosen})
    users, items = indices_in(model.users, interactions.users), indices_in(model.items, interactions.items)
    factors = _unscaled(model, artifact.arrays.get("item_scale"))
    rank = min(job.hyperparameters["n_components"], len(users), len(items))
    if factors is None or factors.shape[1] != rank or not _is_similar(model, interactions, users >= 0, items >= 0):
        return PreviousModel()
    return PreviousModel(
        WarmStart(_take_rows(model.user_factors, users), _take_rows(factors, items)), chosen, warm_starts
    )


def _is_similar(
    model: Recommender, interactions: Interactions, users: NDArray[np.bool_], items: NDArray[np.bool_]
) -> bool:
    """Whether the data have changed little. ``users`` and ``items`` say who of the interactions is known."""
    growth = interactions.n_pairs / max(1, len(model.seen_indices))
    known_users = users @ np.diff(interactions.indptr) / interactions.n_pairs
    known_items = items @ interactions.item_counts() / interactions.n_pairs
    return bool(1 / MAX_GROWTH <= growth <= MAX_GROWTH and min(known_users, known_items) >= MIN_KNOWN_SHARE)


def _unscaled(model: Recommender, scale: NDArray[Any] | None) -> NDArray[np.float32] | None:
    """The items' factors as they were fitted, shape (items, k); None if that cannot be told.

    They cannot where neighbours had everything to say: the scale is zero then.
    """
    if scale is None:
        return model.item_factors.T
    if scale.shape != (len(model.items),) or not (scale > 0).all():
        return None
    with np.errstate(over="ignore"):
        factors: NDArray[np.float32] = (model.item_factors / scale).T.astype(np.float32, copy=False)
    return factors if np.isfinite(factors).all() else None


def _take_rows(factors: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows of ``factors`` at ``places``; zeros at -1."""
    taken = factors[indices]
    taken[indices < 0] = 0
    return np.ascontiguousarray(taken, np.float32)


def _request_digest(job: TrainingJob, interactions: Interactions) -> str:
    """A digest of everything that is asked of a fit but the pairs."""
    asked = json.dumps([job.algorithm, job.hyperparameters, interactions.weighted], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()
