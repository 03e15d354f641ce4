"""How alike items are, and users: dense cosines and the weights of neighbors, written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend_similar
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.similarity import PoolSimilarities, item_similarities, user_similarities
from tests.helpers.answering_models import dense_of, made

Array = NDArray[Any]
N_ITEMS = 40


def with_parts(parts: str, seed: int) -> Recommender:
    """A model that has factors, neighbors, or both; a few items have nothing of either."""
    model = made(N_ITEMS, 5, neighbors=parts != "factors", seed=seed)
    if parts == "neighbors":
        none: dict[str, Any] = {
            "user_factors": np.zeros((6, 0), np.float32),
            "item_factors": np.zeros((0, N_ITEMS), np.float32),
        }
        return replace(model, **none, item_norms=np.zeros(N_ITEMS, np.float32))
    factors = model.item_factors.copy()
    factors[:, [3, 8]] = 0
    model = replace(model, item_factors=factors, item_norms=np.linalg.norm(factors, axis=0))
    if model.neighbors is None:
        return model
    weights = dense_of(model.neighbors, N_ITEMS)
    weights[[8, 11]] = 0
    kept = weights != 0
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
    strengths = model.neighbors.confidences
    rows = ItemItemWeights(
        indptr, np.nonzero(kept)[1].astype(np.int32), weights[kept].astype(np.float32), strengths
    )
    return replace(model, neighbors=rows)


def cosines(vectors: Array) -> Array:
    """Of the rows; 0 with those that are zero."""
    long = vectors.astype(np.float64)
    norms = np.linalg.norm(long, axis=1)
    directions = long / np.where(norms, norms, 1)[:, None]
    found: Array = directions @ directions.T
    return found


def oracle(model: Recommender) -> Array:
    """Row i: how alike each item is to i."""
    alike = cosines(model.item_factors.T)
    if model.neighbors is None:
        return alike
    weights = dense_of(model.neighbors, N_ITEMS)
    largest = np.abs(weights).max(axis=1)
    said = weights / np.where(largest, largest, 1)[:, None]
    with_factors = (model.item_factors != 0).sum(axis=0)[:, None] > 0
    return np.where(with_factors, (alike + said) / 2, said)


@pytest.mark.parametrize("parts", ["factors", "neighbors", "both"])
def test_items_are_as_alike_as_their_factors_and_neighbors_say(parts: str) -> None:
    for seed in range(3):
        model = with_parts(parts, seed)
        expected = oracle(model)
        for item in range(N_ITEMS):
            np.testing.assert_allclose(item_similarities(model, item), expected[item], atol=1e-5)


@pytest.mark.parametrize("parts", ["factors", "neighbors", "both"])
def test_among_a_few_items_it_is_the_same(parts: str) -> None:
    for seed in range(3):
        model = with_parts(parts, seed)
        expected = oracle(model)
        for places in (np.array([8]), np.array([30, 3, 8, 11, 0, 25]), np.arange(N_ITEMS)):
            few = PoolSimilarities(model, places)
            for number, place in enumerate(places):
                np.testing.assert_allclose(few.similarities_to(number), expected[place, places], atol=1e-5)


@pytest.mark.parametrize("scale", [1e-18, 1e-25, 1e17])
def test_the_size_of_factors_does_not_matter(scale: float) -> None:
    model = made(N_ITEMS)
    expected = oracle(model)
    factors = model.item_factors * np.float32(scale)
    norms = np.linalg.norm(factors.astype(np.float64), axis=0).astype(np.float32)
    other = replace(model, item_factors=factors, item_norms=norms)
    np.testing.assert_allclose(item_similarities(other, 5), expected[5], atol=1e-5)
    np.testing.assert_allclose(
        PoolSimilarities(other, np.arange(N_ITEMS)).similarities_to(5), expected[5], atol=1e-5
    )


@pytest.mark.parametrize("parts", ["factors", "neighbors", "both"])
def test_the_items_most_like_one_come_first_and_it_does_not(parts: str) -> None:
    model = with_parts(parts, 0)
    for item in (0, 3, 8, 11):
        answer = recommend_similar(model, item, Query(n=N_ITEMS, explain=True))
        expected = oracle(model)[item]
        assert len(answer.items) == N_ITEMS - 1
        scores = {int(name[1:]): score for name, score in answer.items}
        assert item not in scores
        assert sorted(scores.values(), reverse=True) == list(scores.values())
        for place, score in scores.items():
            assert score == pytest.approx(expected[place], abs=1e-5)
        assert answer.source is None
        assert [one.shares for one in answer.explanations or []] == [[]] * (N_ITEMS - 1)


def test_users_are_as_alike_as_their_factors() -> None:
    model = made(n_users=9)
    factors = model.user_factors.copy()
    factors[4] = 0
    model = replace(model, user_factors=factors)
    for user in (0, 1, 8):
        np.testing.assert_allclose(user_similarities(model, user), cosines(factors)[user], atol=1e-5)


@pytest.mark.parametrize("k", [0, 3])
def test_users_without_factors_are_as_alike_as_what_they_took(k: int) -> None:
    model = made(n_users=9, seed=4)
    indptr, indices = model.seen_indptr.copy(), model.seen_indices[model.seen_indptr[1] :]
    indptr[1:] -= indptr[1]  # the first user took nothing
    none = np.zeros((9, k), np.float32)
    model = replace(model, user_factors=none, seen_indptr=indptr, seen_indices=indices)
    taken = np.zeros((9, len(model.items)))
    taken[np.repeat(np.arange(9), np.diff(indptr)), indices] = 1
    for user in range(9):
        np.testing.assert_allclose(user_similarities(model, user), cosines(taken)[user], atol=1e-6)
