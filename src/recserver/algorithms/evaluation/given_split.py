"""A hold-out that somebody else split: one set of interactions to learn from, another to foretell."""

from __future__ import annotations

import numpy as np

from recserver.algorithms.evaluation.splitting import Holdout, Indices, pair_indices
from recserver.algorithms.interactions import Interactions, indices_in


def holdout_from_split(training: Interactions, test: Interactions) -> Holdout | None:
    """The hold-out of two sets of interactions. None if nobody can be evaluated.

    Everybody who is in both is evaluated, on the pairs of ``test`` that have a positive rating and are not in
    ``training``: what a user has is not recommended, so it cannot be foretold. An item that is not in ``training``
    can only be missed.
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
        indptr=np.concatenate([[0], np.cumsum(n_held[evaluated])]).astype(np.int64),
        items=columns[np.argsort(owners, kind="stable")],
        by_time=False,
    )


def _contains_pairs(
    interactions: Interactions, rows: Indices, columns: Indices
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each pair is among the interactions; a column of -1 is not."""
    width = len(interactions.items)
    owners = np.repeat(np.arange(len(interactions.users)), np.diff(interactions.indptr))
    return np.isin(rows * width + columns, owners * width + interactions.indices) & (columns >= 0)
