"""Why an item is recommended: shares that add up to its score, and are each what one interaction adds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recserver._internal.algorithms.fold_in import FoldIn
from recserver._internal.algorithms.protocol import FittedModel
from recserver._internal.recommend.explanations import MAX_NAMED
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import Answer, recommend, recommend_popular
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import Interaction, parse_boost
from recserver._internal.recommend.user_profile import UserProfile
from recserver._internal.results.recommendations import Source
from tests.helpers.answering_models import dense_of, made, trained, with_kinds
from tests.helpers.planted_tastes import tastes

DATA = tastes(users=90, items=48, groups=4, seed=6)
FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "nmf": ("nmf", {"n_components": 6, "max_iter": 200, "regularization": 0.09, "neighbors": 10, "blend": 0.6}),
    "nmf without neighbors": ("nmf", {"n_components": 6, "max_iter": 200, "regularization": 0.09, "neighbors": 0}),
    "svd weighted": ("svd", {"n_components": 6, "feedback": "weighted"}),
    "als": ("als", {"n_components": 6, "regularization": 3.0}),
    "als weighted": ("als", {"n_components": 6, "regularization": 3.0, "feedback": "weighted"}),
    "ease": ("ease", {"regularization": 20.0, "neighbors": 20}),
}
SENT = [Interaction("i003", 5.0), Interaction("i007", 1.0), Interaction("i010", 2.0), Interaction("i020", 3.0)]


def assert_adds_up(answer: Answer) -> None:
    assert answer.explanations is not None
    assert len(answer.explanations) == len(answer.items)
    for (_, score), one in zip(answer.items, answer.explanations, strict=True):
        shares = [share for _, share in one.shares]
        assert sum(shares) + one.others == pytest.approx(score, rel=1e-6, abs=1e-12)
        assert len(shares) <= MAX_NAMED
        assert [abs(share) for share in shares] == sorted(map(abs, shares), reverse=True)
        assert len({item for item, _ in one.shares}) == len(shares)


def linear_shares(model: Recommender, fold_in: FoldIn, person: UserProfile) -> NDArray[Any]:
    """What each interaction adds to each score, (interactions, items): the equations, solved one at a time."""
    assert person.weights is not None
    factors, worth = model.item_factors.astype(np.float64), person.weights.astype(np.float64)
    gram = fold_in.gram.astype(np.float64)
    system = gram + (fold_in.l2 + 1e-7 * np.trace(gram) / max(1, len(gram))) * np.eye(len(gram))
    spoken = fold_in.input_scale[person.items] * worth / worth.sum() ** fold_in.exponent
    if fold_in.alpha:
        for place, one in zip(person.items.tolist(), worth.tolist(), strict=True):
            system = system + fold_in.alpha * one * np.outer(factors[:, place], factors[:, place])
        spoken = 1 + fold_in.alpha * worth
    active = [row for row in range(len(gram)) if person.factors[row]]
    shares = dense_of(model.neighbors, len(model.items))[person.items] * person.confidences[:, None]
    for number, place in enumerate(person.items.tolist()):
        if active:
            target = spoken[number] * factors[active, place]
            shares[number] += np.linalg.solve(system[np.ix_(active, active)], target) @ factors[active]
    return shares


@pytest.mark.parametrize("name", FITS)
def test_each_share_is_what_one_interaction_adds(tmp_path: Path, name: str) -> None:
    algorithm, given = FITS[name]
    _, model = trained(tmp_path / "m", algorithm, DATA, given)
    assert model.fold_in is not None
    answer = recommend(model, None, Query(n=20, interactions=SENT, explain=True))
    assert answer.source == Source.FOLD_IN
    assert_adds_up(answer)
    places = {one.item_id: model.items.find(one.item_id) or 0 for one in SENT}
    person = model.user_profile(None, {places[one.item_id]: one.rating for one in SENT})
    assert person is not None
    expected = linear_shares(model, model.fold_in, person)
    largest = max(abs(score) for _, score in answer.items)
    for (item, _), one in zip(answer.items, answer.explanations or [], strict=True):
        assert one.others == pytest.approx(0, abs=1e-4 * largest)
        shares = dict(one.shares)
        for number, place in enumerate(person.items.tolist()):
            found = shares.get(model.items[place], 0.0)
            wanted = expected[number, model.items.find(item)]
            assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4 * largest)


@pytest.mark.parametrize("name", FITS)
def test_users_of_the_training_are_told_why(tmp_path: Path, name: str) -> None:
    algorithm, given = FITS[name]
    fit, model = trained(tmp_path / "m", algorithm, DATA, given)
    for user in range(0, 90, 6):
        answer = recommend(model, DATA.users[user], Query(n=10, explain=True))
        assert_adds_up(answer)
        own = set(DATA.indices[DATA.indptr[user] : DATA.indptr[user + 1]].tolist())
        named = {item for one in answer.explanations or [] for item, _ in one.shares}
        assert named <= {DATA.items[place] for place in own}
        assert named
        everything = everything_named(fit, model, user)
        if len(own) <= MAX_NAMED:
            assert everything == pytest.approx(0, abs=1e-5)


def everything_named(fit: FittedModel, model: Recommender, user: int) -> float:
    """The largest part of a score that is left to others."""
    answer = recommend(model, DATA.users[user], Query(n=48, exclude_seen=False, explain=True))
    scores = fit.scores(DATA, np.array([user]))[0]
    for item, score in answer.items:
        assert score == pytest.approx(float(scores[DATA.items.index(item)]), rel=1e-4, abs=1e-5)
    return max(abs(one.others) for one in answer.explanations or [])


def test_some_users_have_few_enough_interactions_to_be_named_all() -> None:
    assert (np.diff(DATA.indptr)[::6] <= MAX_NAMED).any()
    assert (np.diff(DATA.indptr)[::6] > MAX_NAMED).any()


def test_of_many_interactions_the_largest_are_named() -> None:
    model = made(60, neighbors=True)
    assert model.fold_in is not None
    told = [Interaction(f"i{place:05}", 1.0 + place / 7) for place in range(25)]
    answer = recommend(model, None, Query(n=60, interactions=told, explain=True, exclude_seen=False))
    assert_adds_up(answer)
    person = model.user_profile(None, {place: one.rating for place, one in enumerate(told)})
    assert person is not None
    shares = linear_shares(model, model.fold_in, person)
    for (item, _), one in zip(answer.items, answer.explanations or [], strict=True):
        column = shares[:, int(item[1:])]
        assert len(one.shares) == MAX_NAMED
        expected = np.sort(np.abs(column))[::-1][:MAX_NAMED]
        np.testing.assert_allclose([abs(share) for _, share in one.shares], expected, rtol=1e-3, atol=1e-4)
        for name, share in one.shares:
            assert share == pytest.approx(column[int(name[1:])], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("factor", [0.0, 0.5, 3.0])
def test_boosts_scale_every_share(factor: float) -> None:
    model = replace(made(30, neighbors=True), attributes=with_kinds([["a"] if n % 2 else [] for n in range(30)]))
    plain = Query(n=30, explain=True, exclude_seen=False)
    before = recommend(model, "u001", plain)
    after = recommend(model, "u001", replace(plain, boosts=[parse_boost(f"kind=a*{factor}")]))
    assert_adds_up(after)
    shares = {
        item: dict(one.shares) for (item, _), one in zip(before.items, before.explanations or [], strict=True)
    }
    scores = dict(before.items)
    for (item, score), one in zip(after.items, after.explanations or [], strict=True):
        ratio = score / scores[item]
        assert (ratio == pytest.approx(1)) == (int(item[1:]) % 2 == 0 or factor == 1)
        expected = {name: share * ratio for name, share in shares[item].items() if share * ratio}
        assert dict(one.shares) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_what_comes_from_nobodys_interactions_names_none() -> None:
    model = made(30)
    for answer in (
        recommend(model, "nobody", Query(explain=True)),
        recommend_popular(model, Query(explain=True), "overall"),
    ):
        assert [(one.shares, one.others) for one in answer.explanations or []] == [
            ([], score) for _, score in answer.items
        ]
    assert recommend(model, "nobody", Query()).explanations is None
    nothing = recommend(model, "nobody", Query(explain=True, fallback=None))
    assert (nothing.items, nothing.explanations) == ([], [])


def test_what_factors_say_without_fold_in_is_not_put_down_to_neighbors() -> None:
    """A file of an earlier release does not tell which interactions its factors come from."""
    model = made(30, neighbors=True, fold_in=None)
    answer = recommend(model, "u001", Query(n=30, explain=True, exclude_seen=False))
    assert_adds_up(answer)
    own = slice(model.seen_indptr[1], model.seen_indptr[2])
    strengths = model.neighbors.confidences[own] if model.neighbors else []
    said = dense_of(model.neighbors, 30)[model.seen_indices[own]] * np.asarray(strengths)[:, None]
    named = 0
    for (item, score), one in zip(answer.items, answer.explanations or [], strict=True):
        column = said[:, int(item[1:])]
        assert sorted(share for _, share in one.shares) == pytest.approx(sorted(column[column != 0]), rel=1e-5)
        assert one.others == pytest.approx(score - column.sum(), rel=1e-4, abs=1e-5)
        named += len(one.shares)
    assert named


def test_a_user_of_factors_alone_without_fold_in_is_left_to_others() -> None:
    model = made(30, fold_in=None)
    answer = recommend(model, "u001", Query(explain=True))
    assert [(one.shares, one.others) for one in answer.explanations or []] == [
        ([], score) for _, score in answer.items
    ]
