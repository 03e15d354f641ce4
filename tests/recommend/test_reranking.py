"""Which items come in which order: the best, few of a kind, unlike each other; and the pages of that order."""

from __future__ import annotations

from collections import Counter
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recserver._internal.algorithms.top_n import top_n
from recserver._internal.recommend import reranking as picking
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.reranking import POOL_SIZE, Quota, rerank
from tests.helpers.answering_models import dense_of, made

pytestmark = pytest.mark.slow

Kinds = list[list[int]]


def quota(kinds: Kinds, most: int) -> Quota:
    indptr = np.concatenate([[0], np.cumsum([len(own) for own in kinds])]).astype(np.int64)
    return Quota(indptr, np.array([one for own in kinds for one in own], np.int32), most)


def likeness(model: Recommender, one: int, other: int) -> float:
    """The cosine of two items' factors; half of it and half of what neighbors say where a model has both."""
    first, second = (model.item_factors[:, place].astype(np.float64) for place in (one, other))
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    alike = float(first @ second / norms) if norms else 0.0
    if model.neighbors is None:
        return alike
    row = dense_of(model.neighbors, len(model.items))[one]
    largest = np.abs(row).max()
    said = float(row[other] / largest) if largest else 0.0
    return (alike + said) / 2 if first.any() else said


def by_score(scores: NDArray[Any]) -> list[int]:
    left = [place for place, score in enumerate(scores.tolist()) if score > -np.inf]
    return sorted(left, key=lambda place: (-scores[place], place))


def unlike(model: Recommender, scores: NDArray[Any], diversity: float, pool: int) -> list[int]:
    """Maximal marginal relevance, written out; what is not in the pool follows by score."""
    order = by_score(scores)
    left, rest = order[:pool], order[pool:]
    if not left:
        return []
    highest, lowest = float(scores[left[0]]), float(scores[left[-1]])
    taken = [left.pop(0)]
    alike = cache(partial(likeness, model))
    while left:

        def worth(place: int) -> float:
            relevance = (float(scores[place]) - lowest) / ((highest - lowest) or 1.0)
            return (1 - diversity) * relevance - diversity * max(alike(one, place) for one in taken)

        best = max(left, key=worth)
        taken.append(best)
        left.remove(best)
    return taken + rest


def few_of_a_kind(order: list[int], quotas: list[tuple[Kinds, int]]) -> list[int]:
    found: list[int] = []
    for place in order:
        kept = [*found, place]
        if all(
            Counter(value for one in kept for value in kinds[one])[own] <= most
            for kinds, most in quotas
            for own in kinds[place]
        ):
            found = kept
    return found


def random_kinds(random: np.random.Generator, n: int, values: int) -> Kinds:
    return [sorted(set(random.integers(0, values, random.integers(0, 3)).tolist())) for _ in range(n)]


def scores_of(random: np.random.Generator, n: int, left_out: float) -> NDArray[np.float32]:
    scores = random.standard_normal(n).astype(np.float32)
    scores[random.random(n) < left_out] = -np.inf
    return scores


def picked(model: Recommender, scores: NDArray[Any], first: int, n: int, **how: Any) -> list[int]:
    asked: dict[str, Any] = {"diversity": 0.0, "quotas": []} | how

    def ranked(count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        places = top_n(scores, count)
        return places, scores[places]

    found: list[int] = rerank(model, ranked, first, n, **asked).tolist()
    return found


def pages(model: Recommender, scores: NDArray[Any], size: int, **how: Any) -> list[int]:
    found: list[int] = []
    while page := picked(model, scores, len(found), size, **how):
        found += page
    return found


@pytest.mark.parametrize("left_out", [0.0, 0.5, 1.0])
def test_without_wishes_it_is_the_order_of_scores(left_out: float) -> None:
    random, model = np.random.default_rng(1), made(90)
    scores = scores_of(random, 90, left_out)
    scores[::7] = scores[3]
    expected = by_score(scores)
    for first, n in [(0, 1), (0, 10), (5, 10), (85, 10), (89, 1), (90, 5), (10**12, 1000), (0, 1000)]:
        assert picked(model, scores, first, n) == expected[first : first + n]
    assert pages(model, scores, 7) == expected


@pytest.mark.parametrize("neighbors", [False, True])
@pytest.mark.parametrize("diversity", [1e-9, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("left_out", [0.0, 0.6, 1.0])
def test_unlike_items_come_by_maximal_marginal_relevance(
    neighbors: bool, diversity: float, left_out: float
) -> None:
    for seed in range(3):
        model = made(40, neighbors=neighbors, seed=seed)
        scores = scores_of(np.random.default_rng(seed), 40, left_out)
        expected = unlike(model, scores, diversity, POOL_SIZE)
        assert picked(model, scores, 0, 100, diversity=diversity) == expected
        for size in (1, 3, 17, 40):
            assert pages(model, scores, size, diversity=diversity) == expected


@pytest.mark.parametrize("pool", [1, 2, 10, 59, 60, 61])
def test_items_beyond_the_pool_follow_by_score(monkeypatch: pytest.MonkeyPatch, pool: int) -> None:
    monkeypatch.setattr(picking, "POOL_SIZE", pool)
    model, scores = made(60), scores_of(np.random.default_rng(2), 60, 0.0)
    for diversity in (0.3, 1.0):
        expected = unlike(model, scores, diversity, pool)
        assert picked(model, scores, 0, 60, diversity=diversity) == expected
        assert pages(model, scores, 4, diversity=diversity) == expected
        assert picked(model, scores, 55, 60, diversity=diversity) == expected[55:]


def test_a_catalogue_larger_than_the_pool_is_paged_through() -> None:
    model, scores = made(POOL_SIZE + 300), scores_of(np.random.default_rng(3), POOL_SIZE + 300, 0.1)
    found = pages(model, scores, 100, diversity=0.4)
    order = by_score(scores)
    assert sorted(found[:POOL_SIZE]) == sorted(order[:POOL_SIZE])
    assert found[:POOL_SIZE] != order[:POOL_SIZE]
    assert found[POOL_SIZE:] == order[POOL_SIZE:]


@pytest.mark.parametrize("diversity", [0.5, 1.0])
def test_equal_scores_and_items_that_are_all_alike_come_once_each(diversity: float) -> None:
    alike = made(20, item_factors=np.ones((4, 20), np.float32), item_norms=np.full(20, 2, np.float32))
    for scores in (np.zeros(20, np.float32), np.arange(20, dtype=np.float32)):
        found = picked(alike, scores, 0, 20, diversity=diversity)
        assert sorted(found) == list(range(20))
        assert found[0] == by_score(scores)[0]


@pytest.mark.parametrize("diversity", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_there_are_few_of_a_kind(diversity: float, most: int) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        model, scores = made(40, seed=seed), scores_of(random, 40, 0.2)
        kinds, others = random_kinds(random, 40, 5), random_kinds(random, 40, 3)
        order = unlike(model, scores, diversity, POOL_SIZE) if diversity else by_score(scores)
        for asked in ([(kinds, most)], [(kinds, most), (others, 2 * most)]):
            how = {"quotas": [quota(*one) for one in asked], "diversity": diversity}
            expected = few_of_a_kind(order, asked)
            assert picked(model, scores, 0, 100, **how) == expected
            for size in (1, 4, 39):
                assert pages(model, scores, size, **how) == expected
            assert picked(model, scores, 10**9, 5, **how) == []


def test_items_without_a_value_are_free() -> None:
    model, scores = made(30), np.arange(30, dtype=np.float32)
    kinds: Kinds = [[0] if place % 2 else [] for place in range(30)]
    found = picked(model, scores, 0, 30, quotas=[quota(kinds, 1)])
    assert found == [29, *range(28, -1, -2)]


def test_a_quota_is_filled_from_far_down_the_order() -> None:
    n = 4000
    model, scores = made(n), -np.arange(n, dtype=np.float32)
    kinds: Kinds = [[0 if place < n - 3 else 1] for place in range(n)]
    assert picked(model, scores, 0, 4, quotas=[quota(kinds, 2)]) == [0, 1, n - 3, n - 2]
    assert picked(model, scores, 0, 4, quotas=[quota(kinds, 2)], diversity=0.01)[2:] == [n - 3, n - 2]


def test_a_model_without_items_has_none_to_pick() -> None:
    nothing = np.zeros(0, np.float32)
    for how in ({}, {"diversity": 0.5}, {"quotas": [quota([], 1)]}):
        assert picked(made(0), nothing, 0, 10, **how) == []
