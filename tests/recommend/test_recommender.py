"""One version of a model: what it answers to whom, and which files it is not made of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recserver._internal.core.errors import UnreadableModel
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend
from recserver._internal.recommend.query import Query
from recserver._internal.results.recommendations import Source
from recserver._internal.storage.model_file.id_table import pack_ids
from tests.helpers.small_model import ITEMS, USERS, packed, parts


@pytest.fixture
def model(tmp_path: Path) -> Recommender:
    return load_model(packed(tmp_path / "m.pkl"))[1]


def asked(model: Recommender, user: str, n: int = 10, *, exclude_seen: bool = True, fallback: bool = True) -> Any:
    answer = recommend(
        model, user, Query(n=n, exclude_seen=exclude_seen, fallback="overall" if fallback else None)
    )
    return answer.source, answer.items


def test_a_known_user_gets_the_best_first_and_ties_by_item_id(model: Recommender) -> None:
    expected = [("i0", 5), ("i10", 3), ("i2", 3), ("é", 2), ("i1", 1)]
    assert asked(model, "u0") == (Source.PERSONAL, expected)
    for n in range(1, 5):
        assert asked(model, "u0", n) == (Source.PERSONAL, expected[:n])


def test_what_was_seen_is_left_out_unless_asked_for(model: Recommender) -> None:
    assert asked(model, "u1") == (Source.PERSONAL, [("i1", 1), ("i10", 1), ("é", 0)])
    assert asked(model, "u1", 2, exclude_seen=False) == (Source.PERSONAL, [("i2", 2), ("i0", 1)])
    assert asked(model, "u2") == (Source.PERSONAL, [])
    assert len(asked(model, "u2", exclude_seen=False)[1]) == 5


def test_an_unknown_user_gets_what_is_popular_or_nothing(model: Recommender) -> None:
    source, items = asked(model, "nobody", 3)
    assert (source, [item for item, _ in items]) == (Source.POPULAR, ["i0", "i2", "i1"])
    assert [round(score, 4) for _, score in items] == [0.6667, 0.6667, 0.3333]
    assert asked(model, "nobody", fallback=False) == (None, [])
    assert asked(model, "\ud800")[0] == Source.POPULAR


def test_asking_changes_nothing(model: Recommender) -> None:
    first = [asked(model, user) for user in (*USERS, "nobody")]
    assert [asked(model, user) for user in (*USERS, "nobody")] == first


def test_items_and_scores_are_plain_python(model: Recommender) -> None:
    for user in ("u0", "nobody"):
        assert {(type(item), type(score)) for item, score in asked(model, user)[1]} == {(str, float)}


TWO, FOUR_USERS, SIX_ITEMS = pack_ids(USERS[:2]), pack_ids([*USERS, "u3"]), pack_ids([*ITEMS, "ü"])
WRONG: dict[str, dict[str, Any]] = {
    **{f"no {name}": {name: None} for name in parts()},
    "more users than rows": {"user_text": FOUR_USERS[0], "user_offsets": FOUR_USERS[1]},
    "fewer users than rows": {"user_text": TWO[0], "user_offsets": TWO[1]},
    "more items than columns": {"item_text": SIX_ITEMS[0], "item_offsets": SIX_ITEMS[1]},
    "a user twice": {
        "user_text": np.frombuffer(b"u0u0u2", np.uint8),
        "user_offsets": np.array([0, 2, 4, 6], np.int64),
    },
    "ids out of order": {
        "user_text": np.frombuffer(b"u1u0u2", np.uint8),
        "user_offsets": np.array([0, 2, 4, 6], np.int64),
    },
    "other ranks": {"user_factors": np.ones((3, 3), np.float32)},
    "double precision": {"user_factors": np.ones((3, 2), np.float64)},
    "a flat matrix": {"user_factors": np.ones(6, np.float32)},
    "item factors the other way round": {"item_factors": np.ones((5, 2), np.float32)},
    "scores beyond float32": {"user_factors": np.full((3, 2), 3e38, np.float32)},
    "scores beyond float32 below": {"user_factors": np.full((3, 2), -3e38, np.float32)},
    "seen rows that go back": {"seen_indptr": np.array([0, 3, 2, 7], np.int64)},
    "seen rows that begin late": {"seen_indptr": np.array([1, 1, 2, 7], np.int64)},
    "seen rows that end late": {"seen_indptr": np.array([0, 0, 2, 8], np.int64)},
    "too few seen rows": {"seen_indptr": np.array([0, 0, 7], np.int64)},
    "seen items that are not there": {"seen_indices": np.array([0, 3, 0, 1, 2, 3, 5], np.int32)},
    "seen items below zero": {"seen_indices": np.array([0, 3, 0, 1, 2, 3, -1], np.int32)},
    "seen items as floats": {"seen_indices": np.zeros(7, np.float32)},
    "too few counts": {"item_counts": np.array([2, 1], np.int64)},
    "counts as floats": {"item_counts": np.ones(5, np.float32)},
    "norms that are not the items'": {"item_norms": np.zeros(5, np.float32)},
    "norms below zero": {"item_norms": -np.linalg.norm(parts()["item_factors"], axis=0)},
    "norms of an item too few": {"item_norms": np.linalg.norm(parts()["item_factors"], axis=0)[:4]},
    "no version": {"header": {}},
    "a version that is text": {"header": {"model_version": "3"}},
}


def neighbors() -> dict[str, Any]:
    """Item-item weights beside :func:`parts`: ``i0`` speaks for ``i1`` and ``é``, ``i2`` for ``i1``."""
    return {
        "neighbor_indptr": np.array([0, 2, 2, 2, 3, 3], np.int64),
        "neighbor_indices": np.array([1, 4, 1], np.int32),
        "neighbor_weights": np.array([0.5, 2.0, 1.0], np.float32),
        "seen_strengths": np.array([1, 3, 1, 1, 1, 1, 1], np.float32),
    }


def test_neighbors_add_what_the_users_own_interactions_say(tmp_path: Path) -> None:
    _, model = load_model(packed(tmp_path / "m.pkl", **neighbors()))
    assert asked(model, "u1") == (Source.PERSONAL, [("i1", 1 + 0.5 + 3), ("é", 0 + 2), ("i10", 1)])
    assert asked(model, "u0")[1][0] == ("i0", 5), "who has no interactions has factors only"
    assert dict(asked(model, "u2", exclude_seen=False)[1])["i1"] == 2 + 0.5 + 1


def test_a_model_of_neighbors_alone_answers(tmp_path: Path) -> None:
    no_factors = {"user_factors": np.zeros((3, 0), np.float32), "item_factors": np.zeros((0, 5), np.float32)}
    _, model = load_model(packed(tmp_path / "m.pkl", **no_factors, **neighbors()))
    assert asked(model, "u1", 2) == (Source.PERSONAL, [("i1", 3.5), ("é", 2)])


WRONG_NEIGHBORS: dict[str, dict[str, Any]] = {
    **{f"no {name}": {name: None} for name in neighbors()},
    "too few rows": {"neighbor_indptr": np.array([0, 2, 2, 3], np.int64)},
    "rows that go back": {"neighbor_indptr": np.array([0, 2, 1, 2, 3, 3], np.int64)},
    "items that are not there": {"neighbor_indices": np.array([1, 5, 1], np.int32)},
    "items below zero": {"neighbor_indices": np.array([1, -1, 1], np.int32)},
    "fewer weights than items": {"neighbor_weights": np.ones(2, np.float32)},
    "weights in double precision": {"neighbor_weights": np.ones(3)},
    "fewer strengths than pairs": {"seen_strengths": np.ones(6, np.float32)},
    "strengths as whole numbers": {"seen_strengths": np.ones(7, np.int64)},
    "scores beyond float32": {"neighbor_weights": np.full(3, 3e38, np.float32)},
    "scores beyond float32 with factors": {
        "neighbor_weights": np.full(3, 2e37, np.float32),
        "user_factors": np.full((3, 2), 1e19, np.float32),
        "item_factors": np.full((2, 5), 1e19, np.float32),
    },
}


@pytest.mark.parametrize("changes", WRONG_NEIGHBORS.values(), ids=WRONG_NEIGHBORS)
def test_neighbors_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableModel, match=r"train the model again\.$"):
        load_model(packed(tmp_path / "m.pkl", **(neighbors() | changes)))


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableModel, match=r"train the model again\.$"):
        load_model(packed(tmp_path / "m.pkl", **changes))


def test_the_largest_scores_that_are_taken_are_finite(tmp_path: Path) -> None:
    large = np.full((3, 2), 1e19, np.float32), np.full((2, 5), 1e19, np.float32)
    _, model = load_model(packed(tmp_path / "m.pkl", user_factors=large[0], item_factors=large[1]))
    assert all(math.isfinite(score) for _, score in asked(model, "u0")[1])


def test_a_model_without_anybody_answers(tmp_path: Path) -> None:
    nobody = pack_ids([])
    empty = {"user_text": nobody[0], "user_offsets": nobody[1], "item_text": nobody[0], "item_offsets": nobody[1]}
    factors = {"user_factors": np.ones((0, 2), np.float32), "item_factors": np.ones((2, 0), np.float32)}
    seen = {"seen_indptr": np.zeros(1, np.int64), "seen_indices": np.zeros(0, np.int32)}
    path = packed(tmp_path / "m.pkl", **empty, **factors, **seen, item_counts=np.zeros(0, np.int64))
    assert asked(load_model(path)[1], "u0") == (Source.POPULAR, [])
