"""What is chosen of candidates that were tried on a hold-out."""

from __future__ import annotations

import numpy as np
import pytest

from recserver.algorithms.interactions import Interactions
from recserver.algorithms.nmf import tuning as nmf_choice
from recserver.algorithms.nmf.params import NMFParams
from recserver.algorithms.nmf.tuning import BLENDS, REGULARIZATIONS, tune
from recserver.algorithms.protocol import FitContext

USERS, ITEMS = 30, 12


def interactions() -> Interactions:
    """Everybody has the same number of items."""
    indices = np.concatenate([np.sort((np.arange(6) * 2 + user) % ITEMS) for user in range(USERS)])
    return Interactions(
        users=[f"u{user:02}" for user in range(USERS)],
        items=[f"i{item:02}" for item in range(ITEMS)],
        indptr=np.arange(USERS + 1, dtype=np.int64) * 6,
        indices=indices.astype(np.int32),
        ratings=np.ones(USERS * 6, np.float32),
        rows_used=USERS * 6,
    )


def chosen(monkeypatch: pytest.MonkeyPatch, found: dict[tuple[float, float], float], **given: float) -> object:
    monkeypatch.setattr(nmf_choice, "_scores", lambda *_: found)
    return tune(interactions(), NMFParams(**given), FitContext())


def test_one_that_stands_out_among_worse_ones_was_lucky(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {(one, other): 0.2 for one in REGULARIZATIONS for other in BLENDS}
    for near in ((0.09, 0.5), (0.09, 0.7), (0.09, 0.9), (0.06, 0.7), (0.13, 0.7)):
        found[near] = 0.24
    found[0.09, 0.7] = 0.245
    found[0.3, 0.0] = 0.25
    assert chosen(monkeypatch, found) == {"regularization": 0.09, "blend": 0.7}
    found[0.3, 0.0] = 0.5
    assert chosen(monkeypatch, found) == {"regularization": 0.3, "blend": 0.0}, "so much is no luck"


def test_what_is_given_has_neighbours_of_the_other_kind_only(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict.fromkeys([(0.1, blend) for blend in BLENDS], 0.2) | {(0.1, 0.5): 0.24, (0.1, 0.7): 0.23}
    assert chosen(monkeypatch, found, regularization=0.1) == {"regularization": 0.1, "blend": 0.5}
    found = dict.fromkeys([(one, 0.75) for one in REGULARIZATIONS], 0.2) | {(0.13, 0.75): 0.3, (0.09, 0.75): 0.25}
    assert chosen(monkeypatch, found, blend=0.75) == {"regularization": 0.13, "blend": 0.75}
