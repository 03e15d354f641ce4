"""The hold-out: which pairs of which users are held out, and that splits are reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from recserver._internal.algorithms.evaluation.splitting import Holdout, hold_out
from recserver._internal.algorithms.interactions import Interactions
from tests.helpers.source_columns import batch, built, pairs

Pair = tuple[str, str]


def random_pairs(
    users: int = 40, items: int = 30, seed: int = 0, *, timed: bool = False, prefix: str = "u"
) -> Interactions:
    """Random pairs; user 0 has one, user 1 has two, and so on up to twenty."""
    random = np.random.default_rng(seed)
    rows = [
        (f"{prefix}{user}", f"i{item}")
        for user in range(users)
        for item in random.choice(items, 1 + user % 20, replace=False)
    ]
    return of(rows, random.permutation(len(rows)).tolist() if timed else None)


def of(rows: list[Pair], times: list[int] | None = None) -> Interactions:
    users, items = (list(one) for one in zip(*rows, strict=True))
    if times is None:
        return built(batch(user_id=users, item_id=items))[0]
    return built(batch(user_id=users, item_id=items, at=times), timestamp_column="at")[0]


def held(holdout: Holdout) -> set[Pair]:
    """The held-out pairs of items that occur in the training part."""
    users, items = holdout.training.users, holdout.training.items
    bounds = zip(holdout.users.tolist(), holdout.indptr[:-1], holdout.indptr[1:], strict=True)
    return {
        (users[user], items[item])
        for user, start, stop in bounds
        for item in holdout.items[start:stop].tolist()
        if item >= 0
    }


def split(interactions: Interactions, **limits: int) -> Holdout:
    holdout = hold_out(interactions, **limits)
    assert holdout is not None
    return holdout


def test_the_latest_fifth_of_each_users_pairs_is_held_out() -> None:
    interactions = random_pairs(timed=True)
    holdout = split(interactions)
    assert holdout.by_time
    assert interactions.times is not None
    times = pairs(interactions, interactions.times)
    expected = set()
    for user in interactions.users:
        own = sorted((pair for pair in times if pair[0] == user), key=times.__getitem__)
        number = max(1, round(len(own) / 5)) if len(own) > 1 else 0
        expected |= set(own[len(own) - number :])
    assert set(pairs(holdout.training)) == set(times) - expected
    assert held(holdout) == {pair for pair in expected if pair[1] in holdout.training.items}
    assert len(holdout.items) == len(expected)
    assert holdout.training.times is not None
    remaining = pairs(holdout.training, holdout.training.times)
    assert remaining == {pair: times[pair] for pair in remaining}


@pytest.mark.parametrize("times", [None, [7] * 6], ids=["unknown", "all the same"])
def test_without_distinct_times_random_pairs_are_held_out(times: list[int] | None) -> None:
    """Not always those of the last item ids."""
    items = [f"i{number}" for number in range(6)]
    chosen = set()
    for user in range(30):
        others = [("other", item) for item in items]
        holdout = split(of([*((f"u{user}", item) for item in items), *others], times and times * 2))
        assert holdout.by_time == (times is not None)
        (item,) = set(items) - {item for name, item in pairs(holdout.training) if name == f"u{user}"}
        chosen.add(item)
    assert len(chosen) > 3


def test_number_of_held_out_pairs_by_number_of_pairs() -> None:
    found = {}
    for number in range(2, 23):
        holdout = split(of([("u", f"i{item}") for item in range(number)]))
        found[number] = len(holdout.items)
        assert holdout.training.n_pairs == number - found[number]
    assert [found[number] for number in (2, 3, 7, 8, 12, 13, 17, 18, 22)] == [1, 1, 1, 2, 2, 3, 3, 4, 4]


def test_users_with_one_pair_are_only_trained_on() -> None:
    holdout = split(of([("one", "a"), ("two", "a"), ("two", "b"), ("three", "b"), ("four", "a")]))
    assert [holdout.training.users[user] for user in holdout.users] == ["two"]
    assert set(holdout.training.users) == {"one", "two", "three", "four"}
    assert hold_out(of([("one", "a"), ("two", "b")])) is None


def test_items_of_held_out_pairs_only_are_not_in_the_training_part() -> None:
    holdout = split(of([("u", "a"), ("u", "b"), ("u", "new"), ("v", "a")], [1, 2, 3, 1]))
    assert holdout.training.items == ["a", "b"]
    assert holdout.items.tolist() == [-1]
    assert holdout.training.item_counts().tolist() == [2, 1]


def test_pairs_without_positive_ratings_are_not_held_out() -> None:
    rows = batch(user_id=["u"] * 3 + ["v"] * 2, item_id=["a", "b", "c", "a", "c"], rating=[1, 1, -1, 1, 1],
                 at=[1, 2, 3, 1, 2])  # fmt: skip
    holdout = split(built(rows, timestamp_column="at")[0])
    assert [holdout.training.users[user] for user in holdout.users] == ["v"]
    assert set(pairs(holdout.training)) == {("u", "a"), ("u", "b"), ("v", "a")}
    negative = batch(user_id=["u"] * 2, item_id=["a", "b"], rating=[1, 0], at=[1, 2])
    assert hold_out(built(negative, timestamp_column="at")[0]) is None


def test_splits_are_reproducible_and_stable_with_new_users() -> None:
    old, others = random_pairs(), random_pairs(seed=1, prefix="w")
    both = of([*pairs(old), *pairs(others)])
    first, again, more = split(old), split(old), split(both)
    assert held(first) == held(again)
    assert set(pairs(more.training)) & set(pairs(old)) == set(pairs(first.training))
    assert held(first) <= held(more)


def test_max_pairs_samples_whole_users() -> None:
    interactions = random_pairs(200)
    holdout = split(interactions, max_pairs=500)
    users = set(holdout.training.users)
    whole = {pair for pair in pairs(interactions) if pair[0] in users}
    assert 500 - 20 < len(whole) <= 500
    assert set(pairs(holdout.training)) < whole
    assert held(holdout) == {
        pair for pair in whole - set(pairs(holdout.training)) if pair[1] in holdout.training.items
    }
    assert holdout.training.rows_used == holdout.training.n_pairs
    assert split(of([("one", "a"), ("one", "b"), ("one", "c")]), max_pairs=1).training.users == ["one"]
    everything = split(interactions, max_pairs=interactions.n_pairs)
    assert everything.training.users == interactions.users


def test_max_users_samples_evaluated_users_only() -> None:
    interactions = random_pairs(200)
    few, everyone = split(interactions, max_users=30), split(interactions)
    assert (len(few.users), len(everyone.users)) == (30, 190)
    assert few.training.users == interactions.users
    assert pairs(few.training) == pairs(everyone.training)
    assert held(few) == {
        pair for pair in held(everyone) if pair[0] in {few.training.users[one] for one in few.users}
    }
    assert np.mean(few.users) > 40  # not the first thirty
    assert (np.diff(few.users) > 0).all()


def test_splits_differ_by_seed() -> None:
    interactions = random_pairs(200)
    first, other = split(interactions, seed=1), split(interactions, seed=2)
    assert held(first) == held(split(interactions, seed=1))
    assert len({frozenset(held(one)) for one in (split(interactions), first, other)}) == 3
    assert held(split(interactions, seed=0)) == held(split(interactions))
    samples = [split(interactions, seed=seed, max_pairs=500).training.users for seed in (0, 1)]
    assert samples[0] != samples[1]


def test_min_users_is_the_least_number_of_evaluated_users() -> None:
    interactions = random_pairs(200)
    assert hold_out(interactions, min_users=191) is None
    assert len(split(interactions, min_users=190).users) == 190


def test_times_can_be_ignored() -> None:
    timed = random_pairs(timed=True)
    holdout = hold_out(timed, use_times=False)
    assert holdout is not None and not holdout.by_time
    assert held(holdout) == held(split(random_pairs()))
