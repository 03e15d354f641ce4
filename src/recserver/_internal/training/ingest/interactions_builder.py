"""From the rows of a source to interactions: renamed, validated, counted, repeated pairs merged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.chefs.protocol import Batch
from recserver._internal.chefs.row_rules import RepeatedPairs, RowRules
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.errors import SourceFailed
from recserver._internal.training.ingest.column_suggestions import column_hints, missing_columns
from recserver._internal.training.ingest.id_encoding import Vocabulary
from recserver._internal.training.ingest.row_counts import RowCounts
from recserver._internal.training.ingest.row_validation import validate

SECONDS_PER_DAY = 86_400.0

MAX_RATING = float(np.finfo(np.float32).max)

Indices = NDArray[np.int64]


class InteractionsBuilder:
    """Collects batches and builds :class:`Interactions` of them.

    Only codes, ratings and times of the rows are stored.

    Attributes:
        counts: of the rows so far.
    """

    def __init__(self, rules: RowRules) -> None:
        self._rules = rules
        self.reset()

    def reset(self) -> None:
        """Start again: the source is read from its beginning."""
        self._users, self._items = Vocabulary(), Vocabulary()
        self._ratings: list[NDArray[np.float32]] = []
        self._times: list[NDArray[np.float64]] = []
        self.counts = RowCounts()

    def required_columns(self) -> set[str]:
        """The names in the source that may become a column that a training needs."""
        needed = set(self._rules.required_columns())
        return needed | {old for old, new in self._rules.renames.items() if new in needed}

    def add(self, batch: Batch) -> None:
        """Validate the rows of one batch, and take the valid ones."""
        self.counts.add(batch)
        if not batch.n_rows:
            return
        rows = validate(batch, self._rules)
        self.counts.add_errors(rows)
        valid = slice(None) if rows.valid.all() else rows.valid
        self._users.add(rows.users.codes[valid], rows.users.ids)
        self._items.add(rows.items.codes[valid], rows.items.ids)
        self._ratings.append(rows.ratings[valid])
        if rows.times is not None:
            self._times.append(rows.times[valid])
        self.counts.rows_kept += len(self._ratings[-1])

    def build(self) -> Interactions:
        """All batches together. The builder is empty afterwards.

        Raises:
            SourceFailed: if no usable row came, or the source lacks a column.
        """
        if not self.counts.rows_kept:
            raise SourceFailed(self._no_usable_rows_message())
        with ThreadPoolExecutor(min(2, pa.cpu_count())) as pool:
            (users, rows), (items, columns) = pool.map(Vocabulary.finish, (self._users, self._items))
        ratings = np.concatenate(self._ratings)
        times = np.concatenate(self._times) if self._times else None
        self._ratings.clear()
        self._times.clear()
        if times is not None:
            if self._rules.half_life_days is not None:
                now = SystemClock().now().timestamp()
                ratings = decay_ratings(ratings, times, self._rules.half_life_days, now)
            oldest_first = np.argsort(times, kind="stable")
            rows, columns, ratings = rows[oldest_first], columns[oldest_first], ratings[oldest_first]
            times = times[oldest_first]
        indptr, indices, order = _sort_pairs(rows, columns, len(users), len(items))
        indptr, indices, starts = _distinct_pairs(indptr, indices)
        return Interactions(
            users=users,
            items=items,
            indptr=indptr,
            indices=indices,
            ratings=merge_ratings(ratings[order], starts, self._rules.used_repeated_pairs),
            rows_used=self.counts.rows_kept,
            rejected=dict(self.counts.rejected),
            times=None if times is None else times[order][_group_ends(starts, len(order))],
            weighted=self._rules.is_weighted,
        )

    def _no_usable_rows_message(self) -> str:
        names = self.counts.column_names
        if names and missing_columns(names, self._rules):
            return " ".join(column_hints(names, self._rules))
        return self.counts.no_rows_message()


def decay_ratings(
    ratings: NDArray[np.float32], times: NDArray[np.float64], half_life_days: float, now: float
) -> NDArray[np.float32]:
    """``ratings`` halved for every half-life that a row is older than the newest.

    Ages are relative to the newest row, not to the present time, so that unchanged data keep their weights. Rows
    of the future, which are mistakes, count as new and do not make the others old.

    Args:
        ratings, times: of shape (rows,); times in seconds.
        now: the present time, in seconds.
    """
    past = times[times <= now]
    newest = past.max() if len(past) else times.min()
    ages = np.maximum(newest - times, 0.0) / (half_life_days * SECONDS_PER_DAY)
    halved: NDArray[np.float32] = (ratings * np.exp2(-ages)).astype(np.float32)
    return halved


def merge_ratings(ratings: NDArray[np.float32], starts: Indices, rule: RepeatedPairs) -> NDArray[np.float32]:
    """One rating for each pair, shape (groups,).

    Args:
        ratings: shape (rows,), the rows of each pair together, oldest first.
        starts: int64, shape (groups,): where each group begins.
    """
    if len(starts) == len(ratings):
        return ratings
    if rule is RepeatedPairs.FIRST:
        return ratings[starts]
    if rule is RepeatedPairs.LAST:
        newest: NDArray[np.float32] = ratings[_group_ends(starts, len(ratings))]
        return newest
    if rule is RepeatedPairs.MAX:
        largest: NDArray[np.float32] = np.maximum.reduceat(ratings, starts)
        return largest
    sums = np.add.reduceat(ratings, starts, dtype=np.float64)
    finite: NDArray[np.float32] = np.clip(sums, -MAX_RATING, MAX_RATING).astype(np.float32)
    return finite


def _group_ends(starts: Indices, n_rows: int) -> Indices:
    """The index of the last row of each group."""
    return np.append(starts[1:], n_rows) - 1


def _sort_pairs(
    rows: NDArray[np.int32], columns: NDArray[np.int32], n_rows: int, n_columns: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Sort stably by row, then column, in linear time: two passes of counting sort.

    Returns:
        ``indptr`` of shape (n_rows + 1,), the sorted columns, and the original index of each entry.
    """
    number = np.int32 if len(rows) < 2**31 else np.int64
    one_a_row = np.arange(len(rows) + 1, dtype=number)
    by_column = csr_array((one_a_row[:-1], columns, one_a_row), shape=(len(rows), n_columns)).tocsc()
    order = by_column.data
    by_row = csr_array((order, rows[order], by_column.indptr), shape=(n_columns, n_rows)).tocsc()
    return by_row.indptr, by_row.indices, by_row.data


def _distinct_pairs(
    indptr: NDArray[Any], indices: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int32], Indices]:
    """The sorted pairs without repetitions, and the index of each pair's first row among the sorted rows."""
    first = np.ones(len(indices), bool)
    first[1:] = indices[1:] != indices[:-1]
    first[indptr[:-1]] = True  # no row is empty
    starts = np.flatnonzero(first)
    if len(starts) == len(indices):
        return indptr.astype(np.int64), indices.astype(np.int32, copy=False), starts
    return np.searchsorted(starts, indptr).astype(np.int64), indices[starts].astype(np.int32, copy=False), starts
