"""Random interactions without preferences: user activity and item popularity are skewed, timestamps are sorted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

ITEMS = 25_000
ROWS_PER_USER = 200 / 3
COLUMNS = ("user_id", "item_id", "rating", "timestamp")
ROWS_PER_TABLE = 1_000_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of shape (rows,), with integer codes for users and items."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ratings: NDArray[np.int64]
    times: NDArray[np.int64]


def make_rows(count: int, seed: int = 0) -> Rows:
    """Generate ``count`` rows, reproducibly. A user-item pair may occur more than once."""
    rng = np.random.default_rng(seed)
    n_users = max(100, round(count / ROWS_PER_USER))
    activity = rng.lognormal(0.0, 1.1, n_users)
    popularity = rng.permutation(1.0 / np.arange(1, ITEMS + 1) ** 0.9)
    return Rows(
        users=rng.choice(n_users, count, p=activity / activity.sum()),
        items=rng.choice(ITEMS, count, p=popularity / popularity.sum()),
        ratings=np.clip(np.rint(rng.normal(3.7, 1.0, count)), 1, 5).astype(np.int64),
        times=1_500_000_000 + np.sort(rng.integers(0, 150_000_000, count)),
    )


def id_lists(rows: Rows) -> tuple[list[str], list[str]]:
    """The ids of all users and of all items, indexed by code."""
    users = [f"user-{number:08d}" for number in range(int(rows.users.max()) + 1)]
    return users, [f"sku-{number:07d}" for number in range(ITEMS)]


def to_tables(rows: Rows) -> list[pa.Table]:
    """The rows with text ids, in tables of at most ``ROWS_PER_TABLE`` rows."""
    import pyarrow as pa

    users, items = (pa.array(one, pa.string()) for one in id_lists(rows))
    tables = []
    for start in range(0, len(rows.users), ROWS_PER_TABLE):
        part = slice(start, start + ROWS_PER_TABLE)
        ids = users.take(pa.array(rows.users[part])), items.take(pa.array(rows.items[part]))
        columns = [*ids, pa.array(rows.ratings[part]), pa.array(rows.times[part])]
        tables.append(pa.Table.from_arrays(columns, list(COLUMNS)))
    return tables


def write_csv(path: Path, count: int) -> None:
    """Generate ``count`` rows and write them to a CSV file with quoted ids."""
    write_rows(path, make_rows(count))


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows to a CSV file with a header and quoted ids."""
    from pyarrow import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    tables = to_tables(rows)
    with csv.CSVWriter(unfinished, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    unfinished.replace(path)
