"""Made-up interactions: a few users do most, a few items are liked by most, later rows have later times."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

ITEMS = 25_000
ROWS_A_USER = 200 / 3
COLUMNS = ("user_id", "item_id", "rating", "timestamp")
AT_ONCE = 1_000_000


def n_rows(usual: int) -> int:
    """How many rows to measure with: ``RECSERVER_BENCH_ROWS``, or as many as usual."""
    return int(os.environ.get("RECSERVER_BENCH_ROWS", usual))


def rounds(usual: int) -> int:
    """How often to measure: ``RECSERVER_BENCH_ROUNDS``, or as often as usual."""
    return int(os.environ.get("RECSERVER_BENCH_ROUNDS", usual))


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of shape (rows,); users and items by number."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ratings: NDArray[np.int64]
    times: NDArray[np.int64]


def make_rows(count: int, seed: int = 0) -> Rows:
    """``count`` rows, the same for the same arguments. A pair may occur more than once."""
    random = np.random.default_rng(seed)
    n_users = max(100, round(count / ROWS_A_USER))
    activity = random.lognormal(0.0, 1.1, n_users)
    popularity = random.permutation(1.0 / np.arange(1, ITEMS + 1) ** 0.9)
    return Rows(
        users=random.choice(n_users, count, p=activity / activity.sum()),
        items=random.choice(ITEMS, count, p=popularity / popularity.sum()),
        ratings=np.clip(np.rint(random.normal(3.7, 1.0, count)), 1, 5).astype(np.int64),
        times=1_500_000_000 + np.sort(random.integers(0, 150_000_000, count)),
    )


def names(rows: Rows) -> tuple[list[str], list[str]]:
    """The ids of all users and items, by number."""
    users = [f"user-{number:08d}" for number in range(int(rows.users.max()) + 1)]
    return users, [f"sku-{number:07d}" for number in range(ITEMS)]


def tables(rows: Rows, ratings: pa.DataType) -> list[pa.Table]:
    """The rows with ids of text, some at a time."""
    import pyarrow as pa

    users, items = (pa.array(one, pa.string()) for one in names(rows))
    found = []
    for start in range(0, len(rows.users), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        ids = users.take(pa.array(rows.users[part])), items.take(pa.array(rows.items[part]))
        columns = [*ids, pa.array(rows.ratings[part]).cast(ratings), pa.array(rows.times[part])]
        found.append(pa.Table.from_arrays(columns, list(COLUMNS)))
    return found


def write_csv(path: Path, count: int) -> None:
    """A file with a header and ``count`` rows, ids in quotes."""
    write_rows(path, make_rows(count))


def write_rows(path: Path, rows: Rows) -> None:
    """A file with a header and all rows, ids in quotes."""
    import pyarrow as pa
    from pyarrow import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    parts = tables(rows, pa.int64())
    with csv.CSVWriter(unfinished, parts[0].schema) as writer:
        for part in parts:
            writer.write_table(part)
    unfinished.replace(path)
