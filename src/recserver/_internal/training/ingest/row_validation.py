"""The ratings and times of the rows of a batch, and which rows are invalid, by reason."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recserver._internal.chefs.protocol import Batch, Column
from recserver._internal.chefs.rename_columns import renamed_columns
from recserver._internal.chefs.row_rules import RowRules
from recserver._internal.core.errors import quoted
from recserver._internal.training.ingest.id_encoding import (
    INVALID_REASONS,
    EncodedIds,
    distinct_values,
    encode_ids,
    to_arrow,
    to_list,
    value_at,
)
from recserver._internal.training.ingest.value_parsing import parse_ratings, parse_times

MAX_EXAMPLE_CHARS = 300
MAX_VALUE_CHARS = 80

_SHORT_REPR = reprlib.Repr()
_SHORT_REPR.maxstring = _SHORT_REPR.maxother = (
    10_000  # it shortens in the middle, and the end of a secret tells it too
)

RATING_NOT_A_NUMBER = "rating is not a number"


@dataclass(frozen=True, slots=True)
class RowError:
    """Rows that are left out, or whose rating is replaced, for one reason.

    Attributes:
        reason: a clause about the row, such as ``user_id is empty``.
        rows: int64, shape (invalid rows,): their indices in the batch, ascending.
        example: the first of them as text.
    """

    reason: str
    rows: NDArray[np.int64]
    example: str


@dataclass(frozen=True, slots=True)
class ValidatedBatch:
    """One batch, validated row by row.

    Attributes:
        users, items: ids of the rows.
        ratings: float32, shape (rows,): before they decay with time.
        times: float64, shape (rows,): seconds since 1970 in UTC, NaN where unknown; None if no column is named.
        valid: bool, shape (rows,): whether the row is an interaction.
        errors: why the others are not. Each row occurs once, with the first error found.
        replaced: valid rows whose rating is not a finite number, so that it counts 1.
    """

    users: EncodedIds
    items: EncodedIds
    ratings: NDArray[np.float32]
    times: NDArray[np.float64] | None
    valid: NDArray[np.bool_]
    errors: list[RowError]
    replaced: list[RowError]


def validate(batch: Batch, rules: RowRules) -> ValidatedBatch:
    """Validate a batch. In a column that it lacks, every value is missing."""
    n_rows = batch.n_rows
    columns = {new: batch.columns[old] for new, old in renamed_columns(batch.columns, rules.renames).items()}
    absent = pa.nulls(n_rows)
    users, items = (encode_ids(columns.get(name, absent)) for name in ("user_id", "item_id"))
    reasons: list[tuple[str, NDArray[np.bool_]]] = []
    for name, ids in (("user_id", users), ("item_id", items)):
        reasons += [
            (f"{name} {reason}", ids.codes == -1 - number) for number, reason in enumerate(INVALID_REASONS)
        ]
    ratings, unreadable = np.ones(n_rows, np.float32), np.zeros(n_rows, bool)
    if rules.event_weights is not None and rules.used_event_column is not None:
        ratings, unweighted = _event_ratings(columns.get(rules.used_event_column, absent), rules.event_weights)
        reasons += [(f"{rules.used_event_column} {reason}", rows) for reason, rows in unweighted]
    elif rules.constant_rating is not None:
        ratings *= np.float32(rules.constant_rating)
    elif "rating" in columns:
        ratings, unreadable = parse_ratings(columns["rating"])
    times = None
    if rules.used_timestamp_column is not None:
        times = parse_times(columns.get(rules.used_timestamp_column, absent))
        reasons.append((f"{rules.used_timestamp_column} is no time", np.isnan(times)))
    valid = np.ones(n_rows, bool)
    errors = []
    required = {name: columns[name] for name in rules.required_columns() if name in columns}
    for reason, rows in reasons:
        indices = np.flatnonzero(rows & valid)
        if len(indices):
            errors.append(RowError(reason, indices, format_row(required, int(indices[0]))))
            valid[indices] = False
    replaced = []
    if len(indices := np.flatnonzero(unreadable & valid)):
        replaced.append(
            RowError(RATING_NOT_A_NUMBER, indices, format_row({"rating": columns["rating"]}, int(indices[0])))
        )
    return ValidatedBatch(users, items, ratings, times, valid, errors, replaced)


def format_row(columns: Mapping[str, Column], row: int) -> str:
    """One row as text: ``user_id='', item_id='i3'``."""
    parts = (f"{name}={_format_value(value_at(column, row))}" for name, column in columns.items())
    return ", ".join(parts)[:MAX_EXAMPLE_CHARS]


def _format_value(value: object) -> str:
    if isinstance(value, str):
        return quoted(value)
    try:
        text = _SHORT_REPR.repr(value)
    except ValueError:  # Python writes out no number of more than 4300 digits
        return "a number of very many digits"
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[: MAX_VALUE_CHARS - 1]}…"


def _event_ratings(
    column: Column, weights: Mapping[str, float]
) -> tuple[NDArray[np.float32], list[tuple[str, NDArray[np.bool_]]]]:
    """The weight of each row's event, and the rows without a usable one, by reason."""
    array = to_arrow(column)
    distinct = None if array is None else distinct_values(array)
    if distinct is None:
        names = to_list(column)
        indices = np.arange(len(names), dtype=np.int32)
    else:
        names, indices = to_list(distinct.values), distinct.indices
    texts = [None if name is None else _event_name(name) for name in names]
    weight = np.array([np.nan if text is None else weights.get(text, -1.0) for text in texts] + [np.nan])
    ratings = weight[indices]  # index -1 is the last: missing
    reasons = [
        ("is missing", np.isnan(ratings)),
        ("has no weight in event_weights", ratings == -1),
        ("has the weight 0", ratings == 0),
    ]
    return ratings.astype(np.float32), reasons


def _event_name(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
