"""Synthetic interactions from a topic model, so that there are preferences to learn.

Each user has a mixture of up to three of 48 topics, and each item belongs to one topic. An interaction draws a
topic of its user and an item of that topic by popularity; one in six draws from all items instead. User activity
is log-normal. Some users and items appear only later, so that later rows have new users and items.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.random_interactions import Rows, write_rows

N_TOPICS, TOPICS_PER_USER = 48, 3
NOISE = 1 / 6
"""The probability that an interaction does not depend on the user's topics."""
OVERSAMPLING = 2.0
"""Rows drawn for each row of the result, because repeated pairs are dropped."""
NEW_USERS, NEW_ITEMS = 0.3, 0.15
"""Shares of users and items that appear after the start."""
START, DURATION = 1_500_000_000, 150_000_000


def make_rows(count: int, n_users: int, n_items: int, seed: int = 0) -> Rows:
    """Generate at most ``count`` rows in the order of time, without repeated pairs, reproducibly."""
    rng = np.random.default_rng(seed)
    activity = np.maximum(rng.lognormal(0.0, 1.1, n_users), 0.08)
    users = rng.choice(n_users, int(count * OVERSAMPLING), p=activity / activity.sum())
    topics = _draw_topics(rng, users, n_users)
    items = _draw_items(rng, topics, n_items)
    _, first = np.unique(users * n_items + items, return_index=True)
    selected = np.sort(first)[:count]
    users, items, topics = users[selected], items[selected], topics[selected]
    ratings = np.where(topics >= 0, 3.9, 3.2) + rng.normal(0, 1, len(users))
    times = _draw_times(rng, users, items, (n_users, n_items))
    order = np.argsort(times, kind="stable")
    ratings = np.clip(np.rint(ratings), 1, 5).astype(np.int64)
    return Rows(users=users[order], items=items[order], ratings=ratings[order], times=times[order])


def _draw_topics(rng: np.random.Generator, users: NDArray[np.int64], n_users: int) -> NDArray[np.int64]:
    """The topic of each row; -1 for noise."""
    user_topics = rng.integers(0, N_TOPICS, (n_users, TOPICS_PER_USER))
    cumulative = np.cumsum(rng.dirichlet([1.0, 0.6, 0.3], n_users), axis=1)
    uniform = rng.random(len(users))
    index = sum((uniform > cumulative[users, number]).astype(np.int8) for number in range(TOPICS_PER_USER - 1))
    topics = user_topics[users, index]
    topics[rng.random(len(users)) < NOISE] = -1
    return topics


def _draw_items(rng: np.random.Generator, topics: NDArray[np.int64], n_items: int) -> NDArray[np.int64]:
    """The item of each row."""
    popularity = rng.permutation(np.arange(1, n_items + 1) ** -0.9)
    item_topics = rng.integers(0, N_TOPICS, n_items)
    items = np.empty(len(topics), np.int64)
    for topic in range(-1, N_TOPICS):
        rows = np.flatnonzero(topics == topic)
        choices = np.flatnonzero(item_topics == topic)
        if not len(choices):
            choices = np.arange(n_items)
        items[rows] = rng.choice(choices, len(rows), p=popularity[choices] / popularity[choices].sum())
    return items


def _draw_times(
    rng: np.random.Generator, users: NDArray[np.int64], items: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """The timestamp of each row, after its user and its item have appeared."""
    appeared = [
        np.where(rng.random(n) < share, rng.random(n), 0.0)
        for n, share in zip(shape, (NEW_USERS, NEW_ITEMS), strict=True)
    ]
    earliest = np.maximum(appeared[0][users], appeared[1][items])
    times = earliest + (1 - earliest) * rng.random(len(users))
    return (START + times * DURATION).astype(np.int64)


def write_topic_csv(path: str, count: str, n_users: str, n_items: str) -> Callable[[], int]:
    """For :mod:`bench.fresh_process`: write a CSV file with text ids; the result is its number of rows."""

    def write() -> int:
        rows = make_rows(int(count), int(n_users), int(n_items))
        write_rows(Path(path), rows)
        return len(rows.users)

    return write
