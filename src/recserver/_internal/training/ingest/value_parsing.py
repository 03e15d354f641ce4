"""Ratings and times from columns of any type."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recserver._internal.chefs.protocol import Column
from recserver._internal.training.ingest.id_encoding import distinct_values, is_missing, is_text, to_arrow, to_list

EPOCH_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))
"""A number below the first counts seconds since 1970 (until the year 5138), then milli-, micro-, nanoseconds."""

NUMBER_PATTERN = r"^[+-]?\d{1,15}(\.\d{1,15})?$"
"""A number without any ambiguity."""
TIME_PATTERN = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?"
FAST_FORMATS = (
    (NUMBER_PATTERN, pa.float64()),
    (TIME_PATTERN + "$", pa.timestamp("us")),
    (TIME_PATTERN + r"(Z|[+-]\d\d:\d\d)$", pa.timestamp("us", "UTC")),
)
"""Patterns of texts that Arrow parses all at once, and their types. Others are parsed one by one."""


def parse_ratings(column: Column) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The ratings as numbers, and which values are not numbers.

    Returns:
        float32, shape (rows,): 1.0 where a rating is missing, not a number, or not finite; and bool, shape
        (rows,): whether there is a value that is not a finite number.
    """
    with np.errstate(over="ignore"):  # beyond float32 is not finite either
        ratings = parse_numbers(column).astype(np.float32)
    finite = np.isfinite(ratings)
    if finite.all():
        return ratings, ~finite
    return np.where(finite, ratings, np.float32(1)), ~finite & ~_missing_mask(column)


def _missing_mask(column: Column) -> NDArray[np.bool_]:
    """Shape (rows,): whether a value is missing or an empty text."""
    array = to_arrow(column)
    if array is None:
        return np.array([_is_missing(value) for value in to_list(column)], bool)
    if isinstance(array, pa.DictionaryArray) and (found := distinct_values(array)) is not None:
        missing: NDArray[np.bool_] = np.append(_missing_mask(found.values), True)[found.indices]
        return missing
    absent = pc.is_null(array, nan_is_null=pa.types.is_floating(array.type))
    if is_text(array.type):
        try:
            blank = pc.equal(pc.utf8_trim_whitespace(array), "")
        except pa.ArrowInvalid:  # not UTF-8
            blank = pc.equal(pc.binary_length(array), 0)
        absent = pc.or_(absent, pc.fill_null(blank, True))
    return np.asarray(absent.to_numpy(zero_copy_only=False), bool)


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return is_missing(value)


def parse_times(column: Column) -> NDArray[np.float64]:
    """Shape (rows,): seconds since 1970 in UTC, NaN where the value is not a time.

    Numbers, also as text, count seconds, milli-, micro- or nanoseconds, depending on their size
    (:data:`EPOCH_UNITS`). Texts are ISO 8601; without a zone they are UTC.
    """
    array = to_arrow(column)
    if array is None:
        return np.array([_as_time(value) for value in to_list(column)], np.float64)
    if isinstance(array, pa.DictionaryArray):
        return _parse_distinct(array, parse_times)
    kind = array.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _to_seconds(array)
    if is_text(kind):
        return _parse_text_times(array)
    return np.full(len(array), np.nan) if pa.types.is_boolean(kind) else _epoch_seconds(parse_numbers(array))


def _parse_text_times(array: pa.Array) -> NDArray[np.float64]:
    for _, kind in FAST_FORMATS:  # fast if all have the same form
        with contextlib.suppress(pa.ArrowInvalid):
            return _cast_times(array, kind)
    times, remaining = np.full(len(array), np.nan), np.ones(len(array), bool)
    for pattern, kind in FAST_FORMATS:
        with contextlib.suppress(pa.ArrowInvalid):  # the 30th of February
            remaining &= ~_parse_matching(array, times, pattern, partial(_cast_times, kind=kind))
    return _parse_remaining(array, times, remaining, _as_time)


def _cast_times(array: pa.Array, kind: pa.DataType) -> NDArray[np.float64]:
    cast = array.cast(kind)
    return _to_seconds(cast) if pa.types.is_timestamp(kind) else _epoch_seconds(_to_floats(cast))


def _parse_matching(
    array: pa.Array, values: NDArray[np.float64], pattern: str, parse: Callable[[pa.Array], NDArray[np.float64]]
) -> NDArray[np.bool_]:
    """Parse the texts that match a pattern all at once, so that a few unusual ones do not make all others slow.

    Returns:
        Which texts match; ``values`` has their results.
    """
    matches = pc.fill_null(pc.match_substring_regex(array, pattern), fill_value=False)
    found: NDArray[np.bool_] = matches.to_numpy(zero_copy_only=False)
    values[found] = parse(array.filter(matches))
    return found


def _parse_remaining(
    array: pa.Array, values: NDArray[np.float64], remaining: NDArray[np.bool_], parse: Callable[[object], float]
) -> NDArray[np.float64]:
    rows = np.flatnonzero(remaining)
    values[rows] = [parse(value) for value in to_list(array.take(pa.array(rows)))]
    return values


def parse_numbers(column: Column) -> NDArray[np.float64]:
    """Shape (rows,): the values as numbers, NaN where they are not."""
    array = to_arrow(column)
    if array is None:
        return np.array([_as_number(value) for value in to_list(column)], np.float64)
    if isinstance(array, pa.DictionaryArray):
        return _parse_distinct(array, parse_numbers)
    kind = array.type
    if is_text(kind):
        return _parse_text_numbers(array)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        with contextlib.suppress(pa.ArrowInvalid):
            return _to_floats(array.cast(pa.float64(), safe=False))
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan)
    return np.array([_as_number(value) for value in to_list(array)], np.float64)


def _parse_text_numbers(array: pa.Array) -> NDArray[np.float64]:
    with contextlib.suppress(pa.ArrowInvalid):
        return _to_floats(array.cast(pa.float64()))
    if (found := distinct_values(array)) is not None and len(found.values) < len(array):
        return parse_numbers(pa.DictionaryArray.from_arrays(array.dictionary_encode().indices, found.values))
    numbers = np.full(len(array), np.nan)
    parsed = _parse_matching(array, numbers, NUMBER_PATTERN, lambda texts: _to_floats(texts.cast(pa.float64())))
    return _parse_remaining(array, numbers, ~parsed, _as_number)


def _parse_distinct(
    array: pa.DictionaryArray, parse: Callable[[Column], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Parse each distinct value that occurs once, and give every row the result of its value.

    A dictionary may have unused values: what a block of CSV ends with, or what a filter left out.
    """
    found = distinct_values(array)
    if found is None:
        raise AssertionError("a dictionary has distinct values")
    occur = np.flatnonzero(np.bincount(found.indices + 1, minlength=len(found.values) + 1)[1:])
    results = np.full(len(found.values) + 1, np.nan)
    results[occur] = parse(found.values if len(occur) == len(found.values) else found.values.take(pa.array(occur)))
    return results[found.indices]


def _to_floats(array: pa.Array) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(array, math.nan).to_numpy(zero_copy_only=False), np.float64)


def _to_seconds(array: pa.Array) -> NDArray[np.float64]:
    """Arrow dates or times as seconds since 1970; those without a zone are UTC."""
    unit = array.type.unit if pa.types.is_timestamp(array.type) else "ms"
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("ms"))
    ticks_per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    ticks = array.cast(pa.int64())
    return np.where(
        ticks.is_null().to_numpy(zero_copy_only=False),
        np.nan,
        pc.fill_null(ticks, 0).to_numpy(zero_copy_only=False) / ticks_per_second,
    )


def _epoch_seconds(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds since 1970, from numbers whose unit depends on their size."""
    size = np.abs(numbers)
    limits, divisors = zip(*EPOCH_UNITS, strict=True)
    units: NDArray[np.float64] = np.select([size < limit for limit in limits], divisors, np.nan)
    return numbers / units


def _as_number(value: object) -> float:
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        return math.nan  # only Python reads 1_000 and digits of other scripts
    if isinstance(value, bytes):
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _as_time(value: object) -> float:
    if isinstance(value, str):
        number = _as_number(value)
        if not math.isnan(number):
            return float(_epoch_seconds(np.array([number]))[0])
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return math.nan
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        try:
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        except (OverflowError, ValueError):
            return math.nan
    if isinstance(value, bool):
        return math.nan
    return float(_epoch_seconds(np.array([_as_number(value)]))[0])
