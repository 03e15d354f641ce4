"""Scores and their order are those of double precision, however close items are and however large or small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recserver._internal.recommend import batch_top_n as many
from recserver._internal.recommend.model.model_arrays import column_norms
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import Answer, recommend, recommend_many
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import parse_boost
from recserver._internal.recommend.user_profile import FLOAT32_MAX
from tests.helpers.answering_models import made, with_kinds

USERS = [f"u{number:03}" for number in range(8)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MIN_BLOCK_ITEMS", 50)
    monkeypatch.setattr(many, "BLOCK_SCORES", 0)


def of_factors(users: NDArray[Any], items: NDArray[Any]) -> Recommender:
    """A model of these factors, shape (users, k) and (k, items), and every other item a comedy."""
    own = np.ascontiguousarray(items, np.float32)
    kinds = [["comedy"] if place % 2 == 0 else [] for place in range(own.shape[1])]
    model = made(own.shape[1], len(own), n_users=len(users), attributes=with_kinds(kinds))
    return replace(model, user_factors=users.astype(np.float32), item_factors=own, item_norms=column_norms(own))


def close_items(seed: int, k: int, scale: int, signs: bool) -> Recommender:
    """Items that differ by about one rounding, so that some scores are alike; users who like them differently."""
    random = np.random.default_rng(seed)
    one, users = random.standard_normal((k, 1)), random.standard_normal((len(USERS), k))
    users[:4] *= random.random((4, k)) < 0.5  # these are told from fewer components
    items = one * (1 + 1e-7 * random.standard_normal((k, 150)))
    if not signs:
        users, items = np.abs(users), np.abs(items)
    return of_factors(users * 10.0**-scale, items * 10.0**scale)


def by_sorting(model: Recommender, user: int, query: Query) -> list[tuple[str, float]]:
    """Each score in double precision, rounded once and boosted; all sorted, equal ones by place."""
    sums = np.zeros(len(model.items))
    for factor, row in zip(model.user_factors[user], model.item_factors, strict=True):
        sums += float(factor) * row.astype(np.float64)
    scores = sums.astype(np.float32)
    for boost in query.boosts:
        scores[::2] += np.float32(boost.factor - 1) * np.abs(scores[::2])
    order = np.argsort(-scores, kind="stable")[query.offset : query.offset + query.n]
    return list(zip(model.items.ids_at(order.tolist()), scores[order].tolist(), strict=True))


def together(model: Recommender, query: Query) -> list[Answer]:
    return recommend_many(model, USERS, PreparedQuery.for_model(model, query))


@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 2, 8, 40]),
    st.integers(-30, 30),
    st.booleans(),
    st.integers(1, 20),
    st.sampled_from([0, 0, 3, 140]),
    st.lists(st.sampled_from([0.0, 0.3, 1.02, 1.37, 40.0]), max_size=8),
)
def test_close_items_come_in_the_order_of_exact_scores(
    seed: int, k: int, scale: int, signs: bool, n: int, offset: int, boosts: Sequence[float]
) -> None:
    model = close_items(seed, k, scale, signs)
    query = Query(
        n=n, offset=offset, exclude_seen=False, boosts=[parse_boost(f"kind=comedy*{one}") for one in boosts]
    )
    answers = together(model, query)
    for user, answer in enumerate(answers):
        assert answer.items == recommend(model, USERS[user], query).items == by_sorting(model, user, query)


@pytest.mark.parametrize(("of_users", "of_items"), [(1e24, 1e-24), (1e-19, 1e-21)])
def test_factors_whose_squares_or_products_vanish(of_users: float, of_items: float) -> None:
    """Scores that differ come in order even if norms are zero in single precision, or if they are hardly above."""
    for seed in range(10):
        plain = close_items(seed, 8, 0, signs=True)
        model = of_factors(plain.user_factors * of_users, plain.item_factors.astype(np.float64) * of_items)
        for n in (1, 5):
            query = Query(n=n, exclude_seen=False)
            for user, answer in enumerate(together(model, query)):
                assert answer.items == recommend(model, USERS[user], query).items == by_sorting(model, user, query)


def test_the_roundings_of_many_boosts_do_not_part_equal_items() -> None:
    """Both score the same. In single precision they are one rounding apart, which fifty boosts make 31 of."""
    items = np.zeros((2, 3))
    items[:, 0], items[:, 2] = (0.9147011041641235, 0.7840296030044556), (0.9147011637687683, 0.7840296030044556)
    model = of_factors(np.array([[0.7, 0.6]]), items)
    boosts = [parse_boost("kind=comedy*1.37")] * 50
    first, second, _ = recommend(model, "u000", Query(n=3, exclude_seen=False, boosts=boosts)).items
    assert [first[0], second[0]] == ["i00000", "i00002"] and first[1] == second[1]
    assert recommend(model, "u000", Query(n=1, exclude_seen=False, boosts=boosts)).items == [first]


def test_boosts_beyond_all_bounds_are_told_without_a_warning() -> None:
    model = close_items(1, 8, 0, signs=False)
    boosts = [parse_boost("kind=comedy*1000")] * 50
    answer = recommend(model, "u000", Query(n=3, exclude_seen=False, boosts=boosts))
    assert answer.items == [("i00000", FLOAT32_MAX), ("i00002", FLOAT32_MAX), ("i00004", FLOAT32_MAX)]


def test_no_score_is_a_negative_zero() -> None:
    """Whether it were would depend on the components that are zero, which only those who are alone pass over."""
    model = of_factors(np.tile([0.0, -1.0], (len(USERS), 1)), np.array([[5.0], [0.0]]).repeat(100, axis=1))
    query = Query(exclude_seen=False)
    for answer in (recommend(model, "u001", query), *together(model, query)):
        assert {str(score) for _, score in answer.items} == {"0.0"}
