"""A hold-out from given training and test data: which users are evaluated, and on which pairs."""

from __future__ import annotations

import numpy as np

from recserver._internal.algorithms.evaluation.given_split import holdout_from_split
from recserver._internal.algorithms.evaluation.splitting import Holdout
from recserver._internal.algorithms.interactions import Interactions


def of(*rows: tuple[str, str, float]) -> Interactions:
    users, items = (sorted({row[column] for row in rows}) for column in (0, 1))
    ordered = sorted(rows)
    return Interactions(
        users=users,
        items=items,
        indptr=np.searchsorted([users.index(row[0]) for row in ordered], np.arange(len(users) + 1)).astype(
            np.int64
        ),
        indices=np.array([items.index(row[1]) for row in ordered], np.int32),
        ratings=np.array([row[2] for row in ordered], np.float32),
        rows_used=len(rows),
    )


TRAINING = of(("ann", "a", 5), ("bob", "b", 5), ("cem", "c", 5), ("dee", "a", 1))


def held(holdout: Holdout) -> dict[str, list[str | None]]:
    items = [*TRAINING.items, None]
    return {
        TRAINING.users[user]: [items[item] for item in holdout.items[holdout.indptr[n] : holdout.indptr[n + 1]]]
        for n, user in enumerate(holdout.users)
    }


def test_users_of_both_sets_are_evaluated_on_new_positive_pairs() -> None:
    test = of(
        ("ann", "a", 5),  # known
        ("ann", "b", 5),
        ("ann", "c", -1),  # disliked
        ("bob", "new", 5),
        ("bob", "a", 5),
        ("cem", "a", 0),
        ("new user", "a", 5),
    )
    holdout = holdout_from_split(TRAINING, test)
    assert holdout is not None and holdout.training is TRAINING
    assert held(holdout) == {"ann": ["b"], "bob": ["a", None]}


def test_no_evaluable_user_gives_no_holdout() -> None:
    assert holdout_from_split(TRAINING, of(("new user", "a", 5))) is None
    assert holdout_from_split(TRAINING, of(("ann", "a", 5), ("bob", "a", 0))) is None
