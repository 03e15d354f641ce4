"""Which candidate is selected by the scores on a hold-out."""

from __future__ import annotations

import numpy as np
import pytest

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.nmf import tuning as nmf_tuning
from recserver._internal.algorithms.nmf.params import NMFParams
from recserver._internal.algorithms.nmf.tuning import BLENDS, REGULARIZATIONS, tune
from recserver._internal.algorithms.protocol import FitContext

USERS, ITEMS = 30, 12


def interactions() -> Interactions:
    """All users have the same number of items."""
    indices = np.concatenate([np.sort((np.arange(6) * 2 + user) % ITEMS) for user in range(USERS)])
    return Interactions(
        users=[f"u{user:02}" for user in range(USERS)],
        items=[f"i{item:02}" for item in range(ITEMS)],
        indptr=np.arange(USERS + 1, dtype=np.int64) * 6,
        indices=indices.astype(np.int32),
        ratings=np.ones(USERS * 6, np.float32),
        rows_used=USERS * 6,
    )


def tuned(monkeypatch: pytest.MonkeyPatch, scores: dict[tuple[float, float], float], **params: float) -> object:
    monkeypatch.setattr(nmf_tuning, "_scores", lambda *_: scores)
    return tune(interactions(), NMFParams(**params), FitContext())


def test_an_isolated_best_score_is_not_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {(one, other): 0.2 for one in REGULARIZATIONS for other in BLENDS}
    for near in ((0.09, 0.5), (0.09, 0.7), (0.09, 0.9), (0.06, 0.7), (0.13, 0.7)):
        scores[near] = 0.24
    scores[0.09, 0.7] = 0.245
    scores[0.3, 0.0] = 0.25
    assert tuned(monkeypatch, scores) == {"regularization": 0.09, "blend": 0.7}
    scores[0.3, 0.0] = 0.5
    assert tuned(monkeypatch, scores) == {"regularization": 0.3, "blend": 0.0}, "a large difference is not chance"


def test_a_fixed_value_leaves_neighbours_along_the_other_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = dict.fromkeys([(0.1, blend) for blend in BLENDS], 0.2) | {(0.1, 0.5): 0.24, (0.1, 0.7): 0.23}
    assert tuned(monkeypatch, scores, regularization=0.1) == {"regularization": 0.1, "blend": 0.5}
    scores = dict.fromkeys([(one, 0.75) for one in REGULARIZATIONS], 0.2) | {(0.13, 0.75): 0.3, (0.09, 0.75): 0.25}
    assert tuned(monkeypatch, scores, blend=0.75) == {"regularization": 0.13, "blend": 0.75}
