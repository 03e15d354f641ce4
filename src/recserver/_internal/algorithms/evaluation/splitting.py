"""The hold-out: interactions to train on, and held-out pairs to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.interactions import Interactions, to_indptr

MAX_PAIRS = 2_000_000
"""With more pairs a sample of the users is split, so that the time of an evaluation is bounded."""
MAX_USERS = 2_000
"""With more users a sample of them is evaluated: its means are precise enough."""
MIN_TUNING_USERS = 20
"""With fewer evaluated users a comparison of candidates would be decided by chance."""

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Holdout:
    """Interactions, split into a training part and held-out pairs.

    Attributes:
        training: the training part, with the users and items that occur in it.
        users: int64, shape (evaluated users,): rows of ``training``, ascending.
        indptr: int64, shape (evaluated users + 1,): ``users[n]`` has ``items[indptr[n]:indptr[n + 1]]`` held out.
        items: int64, shape (held-out pairs,): columns of ``training``; -1 for items not in ``training``.
        by_time: whether the held-out pairs are each user's latest.
    """

    training: Interactions
    users: Indices
    indptr: Indices
    items: Indices
    by_time: bool


def hold_out(
    interactions: Interactions,
    *,
    max_pairs: int = MAX_PAIRS,
    max_users: int = MAX_USERS,
    min_users: int = 1,
    seed: int = 0,
    use_times: bool = True,
) -> Holdout | None:
    """Hold out a fifth of each user's pairs: the latest ones if times are known, else random ones.

    The split is per user, not at one time for all, because most users are active once: few would have pairs before
    and after that time. The drawback is that the fit knows later choices of other users; so does the popularity
    baseline.

    Of a user with n pairs, n / 5 of them, rounded, are held out: at least one, but none if n is 1. Held-out pairs
    without a positive rating are dropped from both parts. Random choices are made by a hash of the ids, so that
    trainings on nearly the same data hold out nearly the same pairs.

    Args:
        max_pairs: with more pairs, a sample of the users is split.
        max_users: with more evaluated users, a sample of them is evaluated.
        min_users: the minimum number of evaluated users.
        seed: another seed makes other random choices.
        use_times: whether to use times if they are known.

    Returns:
        The hold-out, or None if fewer than ``min_users`` can be evaluated.
    """
    hashed = _id_hashes(interactions.users) ^ _seed_salt(seed)
    users = _hash_order(hashed)
    n_sampled = np.searchsorted(np.cumsum(np.diff(interactions.indptr)[users]), max_pairs, side="right")
    sample = np.sort(users[: max(1, n_sampled)])
    pairs, rows = pair_indices(interactions.indptr, sample)
    columns = interactions.indices[pairs]
    tie_breaks = _mix_bits((hashed[sample][rows] << np.uint64(32)) | _id_hashes(interactions.items)[columns])
    times = interactions.times[pairs] if use_times and interactions.times is not None else None
    held = _held_out_mask(rows, tie_breaks, times)
    relevant = held & (interactions.ratings[pairs] > 0)
    n_held = np.bincount(rows[relevant], minlength=len(sample))
    evaluated = np.flatnonzero(n_held)
    if len(evaluated) < min_users:
        return None
    training, new_columns = _subset(interactions, sample, pairs[~held], rows[~held])
    evaluated = np.sort(evaluated[_hash_order(hashed[sample][evaluated])][:max_users])
    evaluated_pairs = np.isin(rows, evaluated) & relevant
    return Holdout(
        training=training,
        users=evaluated,
        indptr=to_indptr(n_held[evaluated]),
        items=new_columns[columns[evaluated_pairs]],
        by_time=times is not None,
    )


def pair_indices(indptr: Indices, users: Indices) -> tuple[Indices, Indices]:
    """The positions of the pairs of some rows, shape (their pairs,), and the index in ``users`` of each pair."""
    lengths = np.diff(indptr)[users]
    rows = np.repeat(np.arange(len(users)), lengths)
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.arange(len(rows)) + (indptr[users] - firsts)[rows], rows


def _held_out_mask(
    rows: Indices, tie_breaks: NDArray[np.uint64], times: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """Whether each pair is held out, bool, shape (pairs,). ``tie_breaks`` order pairs of the same time."""
    keys = (tie_breaks, rows) if times is None else (tie_breaks, times, rows)
    order = np.lexsort(keys)
    lengths = np.bincount(rows)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    n_held = np.where(lengths > 1, np.maximum(1, (lengths + 2) // 5), 0)
    held = np.empty(len(rows), bool)
    held[order] = rank >= np.repeat(lengths - n_held, lengths)
    return held


def _subset(
    interactions: Interactions, users: Indices, pairs: Indices, rows: Indices
) -> tuple[Interactions, Indices]:
    """Some pairs of some users, each of whom has one, and the new column of each item, -1 if it has no pair."""
    columns = interactions.indices[pairs]
    occurs = np.bincount(columns, minlength=len(interactions.items)) > 0
    new_columns = np.where(occurs, np.cumsum(occurs) - 1, -1)
    subset = Interactions(
        users=[interactions.users[user] for user in users.tolist()],
        items=[interactions.items[item] for item in np.flatnonzero(occurs).tolist()],
        indptr=to_indptr(np.bincount(rows, minlength=len(users))),
        indices=new_columns[columns].astype(np.int32),
        ratings=interactions.ratings[pairs],
        rows_used=len(pairs),
        times=None if interactions.times is None else interactions.times[pairs],
        weighted=interactions.weighted,
    )
    return subset, new_columns


def _hash_order(hashed: NDArray[np.uint64]) -> Indices:
    """A random order that depends on the hashes only."""
    return np.argsort(_mix_bits(hashed), kind="stable")


def _seed_salt(seed: int) -> np.uint64:
    """32 bits to combine with hashes; 0 for the seed 0."""
    return np.uint64(_mix_bits(np.array([seed], np.uint64))[0] & np.uint64(2**32 - 1))


def _id_hashes(ids: Sequence[str]) -> NDArray[np.uint64]:
    return np.fromiter((crc32(one_id.encode()) for one_id in ids), np.uint64, len(ids))


def _mix_bits(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every output bit depends on all input bits."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))
