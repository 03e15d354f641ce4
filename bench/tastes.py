"""Made-up interactions with something to learn: people have tastes, and items come and go with them.

Everybody has one to three of 48 tastes, each item belongs to one, and within a taste a few items are liked by
most. One choice in six is a chance find outside of one's tastes. Activity is log-normal. A part of the users and
of the items arrives while time goes by, so that later rows are about people and things that earlier ones lack.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.rows import Rows, write_rows

TASTES, PER_USER = 48, 3
STRAYS = 1 / 6
SPARE = 2.0
"""Rows that are drawn for each that is wanted: pairs that were drawn before are left out."""
LATE_USERS, LATE_ITEMS = 0.3, 0.15
"""Shares that arrive later than at the beginning."""
BEGINNING, DURATION = 1_500_000_000, 150_000_000


def make_rows(count: int, users: int, items: int, seed: int = 0) -> Rows:
    """At most ``count`` rows in the order of time, no pair twice; the same for the same arguments."""
    random = np.random.default_rng(seed)
    activity = np.maximum(random.lognormal(0.0, 1.1, users), 0.08)
    own = random.choice(users, int(count * SPARE), p=activity / activity.sum())
    wanted = _wanted(random, own, users)
    taken = _taken(random, wanted, items)
    _, first = np.unique(own * items + taken, return_index=True)
    kept = np.sort(first)[:count]
    own, taken, wanted = own[kept], taken[kept], wanted[kept]
    liking = np.where(wanted >= 0, 3.9, 3.2) + random.normal(0, 1, len(own))
    times = _times(random, own, taken, (users, items))
    order = np.argsort(times, kind="stable")
    ratings = np.clip(np.rint(liking), 1, 5).astype(np.int64)
    return Rows(users=own[order], items=taken[order], ratings=ratings[order], times=times[order])


def _wanted(random: np.random.Generator, own: NDArray[np.int64], users: int) -> NDArray[np.int64]:
    """The taste that each row comes of; -1 for a chance find."""
    tastes = random.integers(0, TASTES, (users, PER_USER))
    shares = np.cumsum(random.dirichlet([1.0, 0.6, 0.3], users), axis=1)
    chance = random.random(len(own))
    place = sum((chance > shares[own, number]).astype(np.int8) for number in range(PER_USER - 1))
    wanted = tastes[own, place]
    wanted[random.random(len(own)) < STRAYS] = -1
    return wanted


def _taken(random: np.random.Generator, wanted: NDArray[np.int64], items: int) -> NDArray[np.int64]:
    """The item of each row."""
    popularity = random.permutation(np.arange(1, items + 1) ** -0.9)
    taste = random.integers(0, TASTES, items)
    taken = np.empty(len(wanted), np.int64)
    for number in range(-1, TASTES):
        here = np.flatnonzero(wanted == number)
        among = np.flatnonzero(taste == number) if number >= 0 else np.arange(items)
        if not len(among):
            among = np.arange(items)
        taken[here] = random.choice(among, len(here), p=popularity[among] / popularity[among].sum())
    return taken


def _times(
    random: np.random.Generator, own: NDArray[np.int64], taken: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """A moment for each row, after its user and its item were there."""
    arrivals = [
        np.where(random.random(n) < late, random.random(n), 0.0)
        for n, late in zip(shape, (LATE_USERS, LATE_ITEMS), strict=True)
    ]
    since = np.maximum(arrivals[0][own], arrivals[1][taken])
    when = since + (1 - since) * random.random(len(own))
    return (BEGINNING + when * DURATION).astype(np.int64)


def writing(path: str, count: str, users: str, items: str) -> Callable[[], int]:
    """For :mod:`bench.child`: write a file with ids of text; return how many rows it has."""

    def work() -> int:
        rows = make_rows(int(count), int(users), int(items))
        write_rows(Path(path), rows)
        return len(rows.users)

    return work
