"""The hold-out: what an evaluation may learn from, and what it must foretell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.interactions import Interactions

MAX_PAIRS = 2_000_000
"""The fit of an evaluation gets a sample of the users from here on, so that its time does not grow further."""
MAX_USERS = 2_000
"""Of more evaluated users a sample is taken: a mean over so many is as good."""

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Holdout:
    """Interactions, split in two.

    Attributes:
        training: the part to learn from. Its users and items are those that have a pair in it.
        users: int64, shape (evaluated users,): rows of ``training``, ascending.
        indptr: int64, shape (evaluated users + 1,): ``users[n]`` has ``items[indptr[n]:indptr[n + 1]]`` held out.
        items: int64, shape (held-out pairs,): columns of ``training``; -1 for items that do not occur in it.
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
    seed: int = 0,
    use_times: bool = True,
) -> Holdout | None:
    """Hold out a fifth of each user's pairs: the latest where times are known, else any. None if nobody has two.

    Each user's own latest pairs, not all pairs after one moment: most people come once and do not come back, so
    after a moment there are few who were there before it, and nobody to evaluate. The price is that others' later
    choices are known to the fit; they are to the popularity baseline as well.

    A user with n pairs gives n / 5 of them, rounded, and at least one; a user with a single one gives none.
    Held-out pairs without a positive rating are no success to foretell: they are left out of both parts. What is
    left to chance is decided by a hash of the ids, so that trainings on nearly the same data hold out nearly the
    same.

    Args:
        seed: other numbers than 0 leave other things to chance.
        use_times: whether times count where they are known.
    """
    hashed = _id_hashes(interactions.users) ^ _seed_salt(seed)
    users = _hash_order(hashed)
    n_sampled = np.searchsorted(np.cumsum(np.diff(interactions.indptr)[users]), max_pairs, side="right")
    sample = np.sort(users[: max(1, n_sampled)])
    pairs, rows = pair_indices(interactions.indptr, sample)
    columns = interactions.indices[pairs]
    chance = _mix_bits((hashed[sample][rows] << np.uint64(32)) | _id_hashes(interactions.items)[columns])
    times = interactions.times[pairs] if use_times and interactions.times is not None else None
    held = _held_out_mask(rows, chance, times)
    relevant = held & (interactions.ratings[pairs] > 0)
    if not relevant.any():
        return None
    training, places = _subset(interactions, sample, pairs[~held], rows[~held])
    n_held = np.bincount(rows[relevant], minlength=len(sample))
    evaluated = np.flatnonzero(n_held)
    evaluated = np.sort(evaluated[_hash_order(hashed[sample][evaluated])][:max_users])
    chosen = np.isin(rows, evaluated) & relevant
    return Holdout(
        training=training,
        users=evaluated,
        indptr=np.concatenate([[0], np.cumsum(n_held[evaluated])]).astype(np.int64),
        items=places[columns[chosen]],
        by_time=times is not None,
    )


def pair_indices(indptr: Indices, users: Indices) -> tuple[Indices, Indices]:
    """Where the pairs of some rows stand, shape (their pairs,), and which of ``users`` each belongs to."""
    lengths = np.diff(indptr)[users]
    rows = np.repeat(np.arange(len(users)), lengths)
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.arange(len(rows)) + (indptr[users] - firsts)[rows], rows


def _held_out_mask(
    rows: Indices, chance: NDArray[np.uint64], times: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """Bool, shape (pairs,): whether each pair is held out. Chance decides between pairs of the same time."""
    keys = (chance, rows) if times is None else (chance, times, rows)
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
    """Some pairs of some users, each of whom has one; and the new column of each item, -1 if it has none."""
    columns = interactions.indices[pairs]
    occurs = np.bincount(columns, minlength=len(interactions.items)) > 0
    places = np.where(occurs, np.cumsum(occurs) - 1, -1)
    part = Interactions(
        users=[interactions.users[user] for user in users.tolist()],
        items=[interactions.items[item] for item in np.flatnonzero(occurs).tolist()],
        indptr=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(users)))]).astype(np.int64),
        indices=places[columns].astype(np.int32),
        ratings=interactions.ratings[pairs],
        rows_used=len(pairs),
        times=None if interactions.times is None else interactions.times[pairs],
        weighted=interactions.weighted,
    )
    return part, places


def _hash_order(hashed: NDArray[np.uint64]) -> Indices:
    """Positions in an order that their hashes decide."""
    return np.argsort(_mix_bits(hashed), kind="stable")


def _seed_salt(seed: int) -> np.uint64:
    """As many bits as a hash has; 0 for the seed 0, which changes nothing."""
    return np.uint64(_mix_bits(np.array([seed], np.uint64))[0] & np.uint64(2**32 - 1))


def _id_hashes(ids: Sequence[str]) -> NDArray[np.uint64]:
    return np.fromiter((crc32(one.encode()) for one in ids), np.uint64, len(ids))


def _mix_bits(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of each number depends on all of it: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))
