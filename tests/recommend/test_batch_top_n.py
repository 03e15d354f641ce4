"""Many people at once get what each would get alone, to the last bit of every score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recserver._internal.recommend import batch_top_n as many
from recserver._internal.recommend import pipeline as answering
from recserver._internal.recommend import scoring
from recserver._internal.recommend.filters import parse_condition
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import Answer, recommend, recommend_many, recommend_prepared
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import parse_boost, parse_max_per
from recserver._internal.recommend.user_profile import FLOAT32_MAX, UserProfile
from tests.helpers.answering_models import dense_of, made, with_kinds

USERS = [f"u{number:03}" for number in range(12)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even few items are looked at in several."""
    monkeypatch.setattr(many, "MIN_BLOCK_ITEMS", 50)
    monkeypatch.setattr(many, "BLOCK_SCORES", 0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many people each product was for."""
    found: list[int] = []
    search = many._BatchSearch

    def counted(model: Recommender, people: Any, *given: Any) -> Any:
        found.append(len(people))
        return search(model, people, *given)

    monkeypatch.setattr(many, "_BatchSearch", counted)
    return found


def like_nmf(model: Recommender, seed: int) -> Recommender:
    """Factors as NMF has them: none negative, many zero, and some items alike."""
    random = np.random.default_rng(seed)
    users = np.abs(model.user_factors) * (random.random(model.user_factors.shape) < 0.4)
    items = np.abs(model.item_factors)
    items[:, 1::3] = items[:, : items[:, 1::3].shape[1]]
    return replace(
        model, user_factors=users.astype(np.float32), item_factors=items, item_norms=np.linalg.norm(items, axis=0)
    )


def one_by_one(model: Recommender, users: list[str], query: Query) -> list[Answer]:
    return [recommend(model, user, query) for user in users]


def exact_scores(model: Recommender, user: int) -> NDArray[np.float32]:
    """In double precision, and rounded once."""
    seen = slice(model.seen_indptr[user], model.seen_indptr[user + 1])
    scores = np.zeros(len(model.items))
    for factor, row in zip(model.user_factors[user], model.item_factors, strict=True):
        scores += float(factor) * row.astype(np.float64)
    if model.neighbors is not None:
        said = np.zeros(len(model.items), np.float32)
        assert model.seen_confidences is not None
        for item, strength in zip(model.seen_indices[seen], model.seen_confidences[seen], strict=True):
            said += np.float32(strength) * dense_of(model.neighbors, len(model.items))[item].astype(np.float32)
        scores += said
    return scores.astype(np.float32)


@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 7, 33, 400]),
    st.sampled_from([1, 5, 16]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 300),
    st.integers(0, 20),
    st.booleans(),
)
def test_together_is_as_alone(
    seed: int, items: int, k: int, neighbors: bool, nmf: bool, n: int, offset: int, unseen: bool
) -> None:
    model = made(items, k, n_users=12, neighbors=neighbors, seed=seed)
    model = like_nmf(model, seed) if nmf else model
    users = [*USERS, "stranger", *reversed(USERS)]
    query = Query(n=n, offset=offset, exclude_seen=unseen, fallback="overall" if seed % 2 else None)
    assert recommend_many(model, users, PreparedQuery.for_model(model, query)) == one_by_one(model, users, query)


@pytest.mark.parametrize("neighbors", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_it_is_what_a_sort_of_exact_scores_gives(neighbors: bool, together: bool) -> None:
    model = like_nmf(made(300, 8, n_users=12, neighbors=neighbors, seed=3), 3)
    query = Query(n=40, exclude_seen=False)
    asked = PreparedQuery.for_model(model, query)
    answers = (
        recommend_many(model, USERS, asked)
        if together
        else [recommend_prepared(model, one, asked) for one in USERS]
    )
    for user, answer in enumerate(answers):
        scores = exact_scores(model, user)
        order = np.argsort(-scores, kind="stable")[:40]
        assert answer.items == list(zip(model.items.ids_at(order.tolist()), scores[order].tolist(), strict=True))


def test_however_many_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(300, 8, n_users=12, neighbors=True)
    whole = recommend(model, "u001", Query(n=300))
    monkeypatch.setattr(scoring, "BLOCK_PAIRS", 7)
    assert recommend(model, "u001", Query(n=300)) == whole


def test_items_alike_come_in_order_and_with_the_same_score(calls: list[int]) -> None:
    model = made(400, 16, n_users=12, seed=1)
    column = np.random.default_rng(1).random((16, 1)).astype(np.float32)
    same = replace(model, item_factors=np.repeat(column, 400, axis=1), user_factors=np.abs(model.user_factors))
    for answer in recommend_many(same, USERS, PreparedQuery.for_model(same, Query(n=200, exclude_seen=False))):
        assert [item for item, _ in answer.items] == same.items.ids_at(range(200))
        assert len({score for _, score in answer.items}) == 1
    assert calls == [12]


def test_whoever_has_too_many_items_alike_is_answered_alone(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of whom the training learned nothing: to them, all items are alike."""
    model = made(400, 16, n_users=12, seed=1)
    factors = model.user_factors.copy()
    factors[3:6] = 0
    model = replace(model, user_factors=factors)
    monkeypatch.setattr(many, "MAX_TIES", 90)
    alone: list[str] = []
    taken = {tuple(person.items): user for user in USERS if (person := model.user_profile(user, {})) is not None}
    assert len(taken) == len(USERS)
    for_person = answering._recommend_profile

    def noted(model: Recommender, asked: PreparedQuery, person: UserProfile | None) -> Answer:
        assert person is not None
        alone.append(taken[tuple(person.items)])
        return for_person(model, asked, person)

    monkeypatch.setattr(answering, "_recommend_profile", noted)
    assert recommend_many(model, USERS, PreparedQuery.for_model(model, Query())) == one_by_one(
        model, USERS, Query()
    )
    assert alone[:3] == USERS[3:6] and calls == [12]


def test_what_a_query_leaves_holds_for_all(calls: list[int]) -> None:
    kinds = [["comedy", "drama"][place % 2 : place % 2 + 1] for place in range(200)]
    model = made(200, 8, n_users=12, neighbors=True, attributes=with_kinds(kinds))
    excluded = model.items.ids_at(range(1, 40))
    for query in (
        Query(filters=[parse_condition("kind=comedy")]),
        Query(exclude=excluded),
        Query(candidates=excluded, n=25),
        Query(candidates=[]),
    ):
        answers = recommend_many(model, USERS, PreparedQuery.for_model(model, query))
        assert answers == one_by_one(model, USERS, query)
    assert calls == [12] * 4


def test_neighbors_of_many_people_are_heard_a_few_at_a_time(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(100, 8, n_users=12, neighbors=True)
    monkeypatch.setattr(many, "MAX_NEIGHBOR_SCORES", 700)
    assert recommend_many(model, USERS, PreparedQuery.for_model(model, Query())) == one_by_one(
        model, USERS, Query()
    )
    assert calls == [7, 5]


def test_a_score_does_not_depend_on_what_else_is_asked() -> None:
    """Neither on who asks together, nor on how items are chosen or shown."""
    kinds = [["comedy", "drama"][place % 2 : place % 2 + 1] for place in range(200)]
    model = made(200, 8, n_users=12, neighbors=True, attributes=with_kinds(kinds))
    scores = dict(recommend(model, "u003", Query(n=200)).items)
    for query in (
        Query(explain=True),
        Query(diversity=0.4, n=50),
        Query(max_per=[parse_max_per("kind:3")]),
        Query(candidates=list(scores)[20:30]),
        Query(boosts=[parse_boost("kind=comedy*1")]),
        Query(offset=150),
    ):
        answer = recommend(model, "u003", query)
        assert answer.items and all(scores[item] == score for item, score in answer.items)


def test_what_is_not_plain_is_found_one_by_one(calls: list[int]) -> None:
    model = made(200, 8, n_users=12)
    for query in (Query(explain=True), Query(diversity=0.5), Query(n=many.MAX_BATCH_DEPTH + 1)):
        answers = recommend_many(model, USERS, PreparedQuery.for_model(model, query))
        assert answers == one_by_one(model, USERS, query)
    few = USERS[: many.MIN_BATCH - 1]
    assert recommend_many(model, few, PreparedQuery.for_model(model, Query())) == one_by_one(model, few, Query())
    assert not calls


@pytest.fixture
def quiet() -> Iterator[None]:
    with np.errstate(over="ignore", invalid="ignore"):
        yield


@pytest.mark.usefixtures("quiet")
def test_factors_beyond_all_bounds_give_finite_scores(calls: list[int]) -> None:
    model = made(100, 4, n_users=12)
    huge = replace(
        model,
        user_factors=np.full_like(model.user_factors, 1e30),
        item_factors=np.full_like(model.item_factors, 1e30),
        item_norms=np.full_like(model.item_norms, 2e30),
    )
    for answer in recommend_many(huge, USERS, PreparedQuery.for_model(huge, Query(exclude_seen=False))):
        assert [score for _, score in answer.items] == [FLOAT32_MAX] * 10
    assert calls == [12]
