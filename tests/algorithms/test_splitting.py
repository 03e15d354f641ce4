"""The hold-out: who gives what of it, and that it is the same the next time."""

from __future__ import annotations

import numpy as np
import pytest

from recserver.algorithms.evaluation.splitting import Holdout, hold_out
from recserver.algorithms.interactions import Interactions
from tests.helpers.source_columns import batch, built, pairs

Pair = tuple[str, str]


def some(
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
    interactions = some(timed=True)
    holdout = split(interactions)
    assert holdout.by_time
    assert interactions.times is not None
    at = pairs(interactions, interactions.times)
    expected = set()
    for user in interactions.users:
        own = sorted((pair for pair in at if pair[0] == user), key=at.__getitem__)
        number = max(1, round(len(own) / 5)) if len(own) > 1 else 0
        expected |= set(own[len(own) - number :])
    assert set(pairs(holdout.training)) == set(at) - expected
    assert held(holdout) == {pair for pair in expected if pair[1] in holdout.training.items}
    assert len(holdout.items) == len(expected)
    assert holdout.training.times is not None
    told = pairs(holdout.training, holdout.training.times)
    assert told == {pair: at[pair] for pair in told}


@pytest.mark.parametrize("times", [None, [7] * 6], ids=["unknown", "all the same"])
def test_without_times_to_tell_them_apart_any_pairs_are_held_out(times: list[int] | None) -> None:
    """Not always those of the last ids."""
    items = [f"i{number}" for number in range(6)]
    chosen = set()
    for user in range(30):
        others = [("other", item) for item in items]
        holdout = split(of([*((f"u{user}", item) for item in items), *others], times and times * 2))
        assert holdout.by_time == (times is not None)
        (item,) = set(items) - {item for name, item in pairs(holdout.training) if name == f"u{user}"}
        chosen.add(item)
    assert len(chosen) > 3


def test_how_many_pairs_are_held_out_by_how_many_there_are() -> None:
    found = {}
    for number in range(2, 23):
        holdout = split(of([("u", f"i{item}") for item in range(number)]))
        found[number] = len(holdout.items)
        assert holdout.training.n_pairs == number - found[number]
    assert [found[number] for number in (2, 3, 7, 8, 12, 13, 17, 18, 22)] == [1, 1, 1, 2, 2, 3, 3, 4, 4]


def test_users_with_one_pair_teach_and_are_not_evaluated() -> None:
    holdout = split(of([("one", "a"), ("two", "a"), ("two", "b"), ("three", "b"), ("four", "a")]))
    assert [holdout.training.users[user] for user in holdout.users] == ["two"]
    assert set(holdout.training.users) == {"one", "two", "three", "four"}
    assert hold_out(of([("one", "a"), ("two", "b")])) is None


def test_an_item_that_only_occurs_in_what_is_held_out_is_unknown_to_the_training_part() -> None:
    holdout = split(of([("u", "a"), ("u", "b"), ("u", "new"), ("v", "a")], [1, 2, 3, 1]))
    assert holdout.training.items == ["a", "b"]
    assert holdout.items.tolist() == [-1]
    assert holdout.training.item_counts().tolist() == [2, 1]


def test_dislikes_are_not_to_be_foretold() -> None:
    rows = batch(user_id=["u"] * 3 + ["v"] * 2, item_id=["a", "b", "c", "a", "c"], rating=[1, 1, -1, 1, 1],
                 at=[1, 2, 3, 1, 2])  # fmt: skip
    holdout = split(built(rows, timestamp_column="at")[0])
    assert [holdout.training.users[user] for user in holdout.users] == ["v"]
    assert set(pairs(holdout.training)) == {("u", "a"), ("u", "b"), ("v", "a")}
    all_bad = batch(user_id=["u"] * 2, item_id=["a", "b"], rating=[1, 0], at=[1, 2])
    assert hold_out(built(all_bad, timestamp_column="at")[0]) is None


def test_the_same_is_held_out_again_also_when_others_come() -> None:
    old, others = some(), some(seed=1, prefix="w")
    both = of([*pairs(old), *pairs(others)])
    first, again, more = split(old), split(old), split(both)
    assert held(first) == held(again)
    assert set(pairs(more.training)) & set(pairs(old)) == set(pairs(first.training))
    assert held(first) <= held(more)


def test_of_too_many_pairs_those_of_some_users_are_taken_whole() -> None:
    interactions = some(200)
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


def test_of_too_many_evaluated_users_some_are_taken_and_all_teach() -> None:
    interactions = some(200)
    few, everybody = split(interactions, max_users=30), split(interactions)
    assert (len(few.users), len(everybody.users)) == (30, 190)
    assert few.training.users == interactions.users
    assert pairs(few.training) == pairs(everybody.training)
    assert held(few) == {
        pair for pair in held(everybody) if pair[0] in {few.training.users[one] for one in few.users}
    }
    assert np.mean(few.users) > 40  # not the first thirty
    assert (np.diff(few.users) > 0).all()


def test_another_seed_holds_out_other_pairs_and_the_same_one_the_same() -> None:
    interactions = some(200)
    first, other = split(interactions, seed=1), split(interactions, seed=2)
    assert held(first) == held(split(interactions, seed=1))
    assert len({frozenset(held(one)) for one in (split(interactions), first, other)}) == 3
    assert held(split(interactions, seed=0)) == held(split(interactions))
    samples = [split(interactions, seed=seed, max_pairs=500).training.users for seed in (0, 1)]
    assert samples[0] != samples[1]


def test_times_that_are_not_to_count_do_not() -> None:
    timed = some(timed=True)
    holdout = hold_out(timed, use_times=False)
    assert holdout is not None and not holdout.by_time
    assert held(holdout) == held(split(some()))
