"""From a query to an answer: what was sent along, what is left out, and what others get."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recserver._internal.algorithms.fold_in import FoldIn, Weighting
from recserver._internal.core.errors import InvalidInput
from recserver._internal.recommend.filters import parse_condition
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import Answer, recommend, recommend_popular, recommend_similar
from recserver._internal.recommend.prepared_query import MAX_RERANKED
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import Interaction, parse_boost, parse_max_per
from recserver._internal.results.recommendations import Source
from tests.helpers.answering_models import dense_of, made, with_kinds

N_ITEMS = 30


def ids(answer: Answer) -> list[str]:
    return [item for item, _ in answer.items]


def sent(**ratings: float) -> list[Interaction]:
    return [Interaction(item, rating) for item, rating in ratings.items()]


def item(place: int) -> str:
    return f"i{place:05}"


def own(model: Recommender, user: int) -> dict[int, float]:
    """The worth of what a user took; in these models, worth, rating and strength are the same."""
    assert model.seen_confidences is not None
    row = slice(model.seen_indptr[user], model.seen_indptr[user + 1])
    return dict(zip(model.seen_indices[row].tolist(), model.seen_confidences[row].tolist(), strict=True))


def scores_of(model: Recommender, ratings: dict[int, float]) -> NDArray[Any]:
    """All items' for somebody with these ratings, from the equations: l2 is 0.1, ratings are worth themselves."""
    factors = model.item_factors.astype(np.float64)
    own_factors = factors[:, list(ratings)] @ np.array(list(ratings.values()))
    folded = np.linalg.solve(factors @ factors.T + 0.1 * np.eye(len(factors)), own_factors)
    vector = np.zeros(len(model.items))
    vector[list(ratings)] = list(ratings.values())
    found: NDArray[Any] = folded @ factors + vector @ dense_of(model.neighbors, len(model.items))
    return found


def told(answer: Answer) -> dict[int, float]:
    return {int(name[1:]): score for name, score in answer.items}


def assert_answers(answer: Answer, scores: NDArray[Any], without: set[int]) -> None:
    """All items but some, best first, with these scores."""
    found = told(answer)
    assert set(found) == set(range(len(scores))) - without
    np.testing.assert_allclose([found[place] for place in found], scores[list(found)], rtol=1e-4, atol=1e-4)
    assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize("neighbors", [False, True])
def test_what_a_known_user_did_since_counts_at_once(neighbors: bool) -> None:
    model = made(N_ITEMS, neighbors=neighbors)
    for user in range(6):
        before = own(model, user)
        new = next(place for place in range(N_ITEMS) if place not in before)
        replaced = next(iter(before))
        query = Query(n=100, interactions=[Interaction(item(new), 4.0), Interaction(item(replaced), 2.5)])
        answer = recommend(model, f"u{user:03}", query)
        assert answer.source == Source.PERSONAL
        after = before | {new: 4.0, replaced: 2.5}
        assert_answers(answer, scores_of(model, after), set(after))
        everything = recommend(model, f"u{user:03}", replace(query, exclude_seen=False))
        assert_answers(everything, scores_of(model, after), set())


@pytest.mark.parametrize("neighbors", [False, True])
@pytest.mark.parametrize("user", [None, "nobody", "\ud800"])
def test_somebody_new_is_answered_from_what_is_sent(neighbors: bool, user: str | None) -> None:
    model = made(N_ITEMS, neighbors=neighbors)
    answer = recommend(model, user, Query(n=100, interactions=sent(i00007=2, i00001=0.5, unknown=9)))
    assert answer.source == Source.FOLD_IN
    assert_answers(answer, scores_of(model, {7: 2, 1: 0.5}), {1, 7})


def test_the_later_of_two_interactions_with_one_item_counts() -> None:
    model = made(N_ITEMS)
    two = [Interaction(item(3), 5.0), Interaction(item(4), 1.0), Interaction(item(3), 0.25)]
    answer = recommend(model, None, Query(n=100, interactions=two))
    assert_answers(answer, scores_of(model, {4: 1.0, 3: 0.25}), {3, 4})


def test_ratings_of_zero_take_back_what_a_known_user_did() -> None:
    model = made(N_ITEMS)
    before = own(model, 2)
    assert len(before) > 1
    first = next(iter(before))
    answer = recommend(model, "u002", Query(n=100, interactions=[Interaction(item(first), -1.0)]))
    assert answer.source == Source.PERSONAL
    assert_answers(answer, scores_of(model, before | {first: 0.0}), set(before))


@pytest.mark.parametrize(
    "interactions",
    [[], sent(unknown=5), sent(i00003=0), sent(i00003=-2, i00004=0, unknown=3)],
    ids=["none", "unknown items", "zero", "nothing positive"],
)
def test_who_says_nothing_gets_what_is_popular(interactions: list[Interaction]) -> None:
    model = made(N_ITEMS)
    answer = recommend(model, "nobody", Query(n=100, interactions=interactions))
    assert answer.source == Source.POPULAR
    named = {int(one.item_id[1:]) for one in interactions if one.item_id != "unknown"}
    assert_answers(answer, model.popularity.astype(np.float64), named)
    nothing = recommend(model, "nobody", Query(n=100, interactions=interactions, fallback=None))
    assert (nothing.source, nothing.items) == (None, [])


def test_a_model_that_cannot_fold_in_gives_what_it_has() -> None:
    model = made(N_ITEMS, fold_in=None)
    new = recommend(model, "nobody", Query(n=100, interactions=sent(i00003=5)))
    assert new.source == Source.POPULAR
    assert_answers(new, model.popularity.astype(np.float64), {3})
    known = recommend(model, "u001", Query(n=100, interactions=sent(i00003=5)))
    assert known.source == Source.PERSONAL
    by_id = model.user_factors[1].astype(np.float64) @ model.item_factors
    assert_answers(known, by_id, {3, *own(model, 1)})


def test_scores_that_would_be_infinite_do_not_count() -> None:
    model = made(N_ITEMS, neighbors=True)
    assert model.neighbors is not None
    large = replace(model.neighbors, weights=model.neighbors.weights * np.float32(1e36))
    model = replace(model, neighbors=large)
    new = recommend(model, None, Query(n=100, interactions=sent(i00003=1e9)))
    assert new.source == Source.POPULAR
    known = recommend(model, "u001", Query(n=100, interactions=sent(i00003=1e9), explain=True))
    assert (known.source, len(known.items)) == (Source.PERSONAL, N_ITEMS - len({3, *own(model, 1)}))
    assert all(math.isfinite(score) for _, score in known.items)


def test_what_is_popular_lately_needs_times() -> None:
    recent = np.random.default_rng(8).random(N_ITEMS).astype(np.float32)
    model = made(N_ITEMS, recent_popularity=recent)
    for answer in (
        recommend_popular(model, Query(n=100), "recent"),
        recommend(model, "nobody", Query(n=100, fallback="recent")),
    ):
        assert answer.source == Source.RECENT
        assert_answers(answer, recent.astype(np.float64), set())
    assert_answers(recommend_popular(model, Query(n=100), "overall"), model.popularity.astype(np.float64), set())
    timeless = made(N_ITEMS)
    with pytest.raises(InvalidInput, match="needs times"):
        recommend_popular(timeless, Query(), "recent")
    with pytest.raises(InvalidInput, match="needs times"):
        recommend(timeless, "nobody", Query(fallback="recent"))
    with pytest.raises(InvalidInput, match="needs times"):  # whoever asks
        recommend(timeless, "u001", Query(fallback="recent"))


@pytest.mark.parametrize("kind", ["known", "new", "popular", "like"])
def test_as_many_items_come_as_are_left(kind: str) -> None:
    model = made(N_ITEMS, neighbors=True, seed=1)
    seen = set(own(model, 3))
    for seed in range(60):
        random = np.random.default_rng(seed)
        exclude = set(random.permutation(N_ITEMS)[: random.integers(0, N_ITEMS)].tolist())
        some = set(random.permutation(N_ITEMS)[: random.integers(0, N_ITEMS)].tolist())
        candidates = None if seed % 3 == 0 else some
        query = Query(
            n=int(random.integers(1, 12)),
            offset=int(random.integers(0, 6)),
            exclude=["unknown", *map(item, exclude), *map(item, exclude)],
            candidates=None if candidates is None else ["", "\ud800", *map(item, candidates)],
            exclude_seen=bool(seed % 2),
            interactions=sent(i00005=1, i00006=2) if kind == "new" else [],
            diversity=0.3 if seed % 5 == 0 else 0.0,
        )
        ask = {"known": "u003", "new": None, "popular": "nobody"}
        answer = recommend_similar(model, 9, query) if kind == "like" else recommend(model, ask[kind], query)
        left = (set(range(N_ITEMS)) if candidates is None else candidates) - exclude
        if kind == "like":
            left -= {9}
        elif query.exclude_seen:
            left -= {"known": seen, "new": {5, 6}, "popular": set[int]()}[kind]
        assert set(told(answer)) <= left
        assert len(answer.items) == min(query.n, max(0, len(left) - query.offset))
        whole = replace(query, n=1000, offset=0)
        order = recommend_similar(model, 9, whole) if kind == "like" else recommend(model, ask[kind], whole)
        assert answer.items == order.items[query.offset : query.offset + query.n]
        if not query.diversity:
            assert [score for _, score in answer.items] == sorted((s for _, s in answer.items), reverse=True)


def test_nothing_left_of_candidates_is_nothing() -> None:
    model = made(N_ITEMS)
    assert recommend(model, "u001", Query(candidates=[])).items == []
    assert recommend(model, "u001", Query(candidates=["unknown"])).items == []
    both = Query(candidates=[item(2), item(3)], exclude=[item(2)], exclude_seen=False)
    assert ids(recommend(model, "u001", both)) == [item(3)]


KINDS = [["a"] if place % 3 == 0 else ["b", "c"] if place % 3 == 1 else [] for place in range(N_ITEMS)]


def with_attributes(model: Recommender) -> Recommender:
    return replace(model, attributes=with_kinds(KINDS, [float(place) for place in range(N_ITEMS)]))


def test_filters_leave_what_fulfils_all_of_them() -> None:
    model = with_attributes(made(N_ITEMS))
    query = Query(n=100, exclude_seen=False, filters=[parse_condition("kind=b"), parse_condition("price<20")])
    assert set(told(recommend(model, "u001", query))) == {p for p in range(20) if "b" in KINDS[p]}


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5, 1000.0])
def test_boosts_raise_scores_whatever_their_sign(factor: float) -> None:
    plain, model = made(N_ITEMS), with_attributes(made(N_ITEMS))
    before = told(recommend(plain, "u001", Query(n=100)))
    assert min(before.values()) < 0 < max(before.values())
    boosts = [parse_boost(f"kind=a*{factor}"), parse_boost({"filter": "price<10", "factor": 2})]
    expected = np.full(N_ITEMS, -np.inf)
    for place, score in before.items():
        once = score + (factor - 1) * abs(score) * ("a" in KINDS[place])
        expected[place] = once + abs(once) * (place < 10)
    answer = recommend(model, "u001", Query(n=100, boosts=boosts))
    assert_answers(answer, expected, set(range(N_ITEMS)) - set(before))


def test_boosted_scores_stay_finite() -> None:
    model = with_attributes(made(N_ITEMS))
    model = replace(model, item_factors=model.item_factors * np.float32(1e37))
    answer = recommend(model, "u001", Query(n=100, boosts=[parse_boost("kind=a*1000")], explain=True))
    assert all(math.isfinite(score) for _, score in answer.items)


def test_of_a_kind_come_only_so_many() -> None:
    model = with_attributes(made(N_ITEMS))
    query = Query(n=6, exclude_seen=False, max_per=[parse_max_per("kind:2")])
    found = list(told(recommend(model, "u001", query)))
    order = list(told(recommend(model, "u001", Query(n=100, exclude_seen=False))))
    expected: list[int] = []
    for place in order:
        if not KINDS[place] or sum(KINDS[place] == KINDS[one] for one in expected) < 2:
            expected.append(place)
    assert found == expected[:6]


def test_a_model_of_worth_that_is_not_told_takes_all_for_one() -> None:
    """Where a file has no strengths, all pairs of a user are worth 1."""
    fold_in = FoldIn(np.ones(N_ITEMS, np.float32), np.zeros((4, 4), np.float32), Weighting("implicit"), l2=0.1)
    model = made(N_ITEMS)
    fold_in = replace(fold_in, gram=model.item_factors @ model.item_factors.T)
    model = replace(model, seen_confidences=None, fold_in=fold_in)
    row = slice(model.seen_indptr[1], model.seen_indptr[2])
    before = dict.fromkeys(model.seen_indices[row].tolist(), 1.0)
    new = next(place for place in range(N_ITEMS) if place not in before)
    answer = recommend(model, "u001", Query(n=100, interactions=[Interaction(item(new), 5.0)]))
    after = before | {new: 1.0}
    assert_answers(answer, scores_of(model, after), set(after))


def test_far_pages_are_refused_where_each_item_depends_on_those_before() -> None:
    model = made(MAX_RERANKED + 50, k=2)

    def found(offset: int, n: int = 10, diversity: float = 0.5) -> int:
        query = Query(n=n, offset=offset, diversity=diversity, exclude_seen=False)
        return len(recommend(model, "u001", query).items)

    assert found(MAX_RERANKED - 10) == 10
    assert found(MAX_RERANKED + 50) == 0  # past the end
    with pytest.raises(InvalidInput, match="offset: must not reach beyond item 10000"):
        found(MAX_RERANKED - 10, 11)
    assert found(MAX_RERANKED - 10, 11, diversity=0) == 11
