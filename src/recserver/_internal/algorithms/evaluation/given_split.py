"""A hold-out from given training and test interactions."""

from __future__ import annotations

import numpy as np

from recserver._internal.algorithms.evaluation.splitting import Holdout, Indices, pair_indices
from recserver._internal.algorithms.interactions import Interactions, indices_in, to_indptr


def holdout_from_split(training: Interactions, test: Interactions) -> Holdout | None:
    """The hold-out of two sets of interactions; None if no user can be evaluated.

    All users of both sets are evaluated, on the pairs of ``test`` that have a positive rating and are not in
    ``training``, because items that a user already has are not recommended. Items that are not in ``training``
    count as missed.
    """
    users = indices_in(training.users, test.users)
    items = indices_in(training.items, test.items)
    known = np.flatnonzero(users >= 0)
    pairs, rows = pair_indices(test.indptr, known)
    owners, columns = users[known][rows], items[test.indices[pairs]]
    relevant = (test.ratings[pairs] > 0) & ~_contains_pairs(training, owners, columns)
    owners, columns = owners[relevant], columns[relevant]
    if not len(owners):
        return None
    n_held = np.bincount(owners, minlength=len(training.users))
    evaluated = np.flatnonzero(n_held)
    return Holdout(
        training=training,
        users=evaluated,
        indptr=to_indptr(n_held[evaluated]),
        items=columns[np.argsort(owners, kind="stable")],
        by_time=False,
    )


def _contains_pairs(
    interactions: Interactions, rows: Indices, columns: Indices
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each pair is among the interactions; a column of -1 never is."""
    width = len(interactions.items)
    owners = np.repeat(np.arange(len(interactions.users)), np.diff(interactions.indptr))
    return np.isin(rows * width + columns, owners * width + interactions.indices) & (columns >= 0)
