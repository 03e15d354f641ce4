"""Warm starts: a retraining begins where the version before it ended, unless something speaks against it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms import Start
from recserver.artifact import JSON, Artifact, load
from recserver.errors import RecServerError
from recserver.ids import IdTable
from recserver.interactions import Interactions
from recserver.recommend.recommender import Recommender
from recserver.specs.jobs import TrainingJob

LEAST_KNOWN = 0.8
"""Share of the pairs that are of known users, and of known items, below which a start is cold."""
MOST_GROWTH = 1.5
"""By which the number of pairs may have grown or shrunk."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a training takes from the version before it.

    Attributes:
        start: its factors, for the users and items of now; None for a cold start.
        chosen: hyperparameters that it left to the data, and what was found for them; empty for a cold start.
        warm_starts: how many trainings since the last cold one, this one included.
    """

    start: Start | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    warm_starts: int = 0

    def header(self, job: TrainingJob, chosen: dict[str, Any]) -> dict[str, JSON]:
        """What the next training needs to know of this one."""
        return {"asked": _asked(job), "chosen": chosen, "warm_starts": self.warm_starts}


def earlier(job: TrainingJob, interactions: Interactions, most: int) -> Earlier:
    """What to start from: the model file that the job names, unless it is of other hyperparameters or other data.

    Args:
        most: warm starts in a row, after which one is cold, so that nothing drifts; 0 for none.
    """
    if job.earlier is None or not most:
        return Earlier()
    try:
        found = load(job.earlier)
        return _from(found, job, interactions, most)
    except (RecServerError, OSError, KeyError, TypeError, ValueError):
        return Earlier()  # a cold start needs nothing; the server says what is wrong with the file


def _from(found: Artifact, job: TrainingJob, interactions: Interactions, most: int) -> Earlier:
    header, model = found.header, Recommender.from_artifact(found)  # which looks whether everything fits
    warm_starts = int(header.get("warm_starts", 0)) + 1
    if header.get("asked") != _asked(job) or warm_starts > most:
        return Earlier()
    growth = interactions.n_pairs / max(1, len(model.seen_indices))
    if not 1 / MOST_GROWTH <= growth <= MOST_GROWTH:
        return Earlier()
    users, items = _places(model.users, interactions.users), _places(model.items, interactions.items)
    known_users = (users >= 0) @ np.diff(interactions.indptr) / interactions.n_pairs
    known_items = (items >= 0) @ interactions.item_counts() / interactions.n_pairs
    if min(known_users, known_items) < LEAST_KNOWN:
        return Earlier()
    scale = found.arrays["item_scale"]
    if scale.shape != (len(model.items),) or not scale.all():
        return Earlier()  # neighbours had everything to say: there are no factors to start from
    unscaled = (model.item_factors / scale).T.astype(np.float32, copy=False)
    start = Start(users=_taken(model.user_factors, users), items=_taken(unscaled, items))
    return Earlier(start, dict(header["chosen"]), warm_starts)


def _places(known: IdTable, wanted: Sequence[str]) -> NDArray[np.int64]:
    """Where each id stands in ``known``; -1 where it does not."""
    places = {one: place for place, one in enumerate(known)}
    return np.array([places.get(one, -1) for one in wanted], np.int64)


def _taken(factors: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows of ``factors`` at ``places``; zeros at -1."""
    taken = factors[places]
    taken[places < 0] = 0
    return np.ascontiguousarray(taken, np.float32)


def _asked(job: TrainingJob) -> str:
    """A digest of everything that is asked of a fit but the data."""
    asked = json.dumps([job.algorithm, job.hyperparameters], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()
