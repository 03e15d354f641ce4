"""Random interactions to fit models to, with and without planted tastes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.protocol import FittedModel


def some(users: int = 30, items: int = 20, seed: int = 0) -> Interactions:
    """Random ratings from 1 to 5 for about a third of all pairs; every user and item occurs."""
    random = np.random.default_rng(seed)
    dense = random.integers(1, 6, (users, items)) * (random.random((users, items)) < 0.3)
    dense[np.arange(users), np.arange(users) % items] = 3
    dense[np.arange(items) % users, np.arange(items)] = 4
    return of(dense)


def of(dense: Any) -> Interactions:
    """The interactions of a matrix of ratings in which 0 means none."""
    matrix = csr_array(np.asarray(dense, np.float32))
    return Interactions(
        users=[f"u{number:03}" for number in range(matrix.shape[0])],
        items=[f"i{number:03}" for number in range(matrix.shape[1])],
        indptr=matrix.indptr.astype(np.int64),
        indices=matrix.indices.astype(np.int32),
        ratings=matrix.data,
        rows_used=matrix.nnz,
    )


def tastes(users: int = 300, items: int = 120, groups: int = 6, seed: int = 0) -> Interactions:
    """Users and items in groups: users interact with about a third of their group's items, and few others."""
    random = np.random.default_rng(seed)
    user_group, item_group = np.arange(users) % groups, np.arange(items) % groups
    probability = np.where(user_group[:, None] == item_group[None], 0.35, 0.02)
    occurs = random.random((users, items)) < probability
    occurs[np.arange(users), user_group] = True
    occurs[np.arange(items), np.arange(items)] = True
    return of(occurs * random.integers(1, 6, (users, items)))


def same(one: FittedModel, other: FittedModel) -> bool:
    """Whether two models are bit-identical."""
    pairs = [(one.users, other.users), (one.items, other.items)]
    if one.neighbors is not None and other.neighbors is not None:
        pairs += [
            (getattr(one.neighbors, name), getattr(other.neighbors, name)) for name in one.neighbors.__slots__
        ]
    both = (one.neighbors is None) == (other.neighbors is None)
    return both and all(np.array_equal(*pair) for pair in pairs)
