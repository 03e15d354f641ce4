"""The values of one attribute column of any type, as texts of the same meaning."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recserver._internal.chefs.protocol import Column
from recserver._internal.recommend.filters import MAX_VALUE_LENGTH
from recserver._internal.training.ingest.id_encoding import (
    distinct_values,
    is_list,
    is_missing,
    is_text,
    is_unicode,
    to_arrow,
    to_list,
    to_utf8,
)

SEPARATOR = "|"
"""Separates the values of a multivalued text."""

MAX_INTEGER = 10**300
"""Larger integers are not values: as text they could fill the memory."""

Indices = NDArray[np.int64]


def _no_indices() -> Indices:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class TextValues:
    """The values of a column. Missing ones are left out, and a row may have several.

    Attributes:
        rows: int64, shape (values,): the row of each value.
        codes: int32, shape (values,): its index in ``texts``.
        texts: Arrow text, none empty or longer than 256 characters; may have duplicates and unused ones.
        multivalued: int64: rows whose value is a list, or a text with a separator.
        too_long, unsupported: int64: rows of values that are left out, because they are too long, or not a text,
            number, time or list of these.
    """

    rows: Indices
    codes: NDArray[np.int32]
    texts: pa.Array
    multivalued: Indices = field(default_factory=_no_indices)
    too_long: Indices = field(default_factory=_no_indices)
    unsupported: Indices = field(default_factory=_no_indices)

    def reindexed(self, parents: Indices) -> TextValues:
        """The same for lists whose elements these are: ``parents`` has the row of each element."""
        marked = (parents[rows] for rows in (self.multivalued, self.too_long, self.unsupported))
        return TextValues(parents[self.rows], self.codes, self.texts, *marked)

    def expanded(self, indices: NDArray[np.int32], n_values: int) -> TextValues:
        """The same for a column of ``indices`` into these ``n_values`` values, -1 where there is none."""
        held = self.multivalued, self.too_long, self.unsupported
        marked = (_expand_indices(rows, indices, n_values)[0] for rows in held)
        rows, which = _expand_indices(self.rows, indices, n_values)
        return TextValues(rows, self.codes[which], self.texts, *marked)


def _expand_indices(held: Indices, indices: NDArray[np.int32], n_values: int) -> tuple[Indices, Indices]:
    """For each row, the entries of ``held`` that are of its value: the row and the index in ``held`` of each.

    Args:
        held: ascending indices of values, with repetitions.
        indices: for each row the index of its value, -1 for none.
    """
    offsets = np.append(0, np.cumsum(np.bincount(held, minlength=n_values)))
    by_value = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(np.arange(len(held))))
    by_row = by_value.take(pa.array(indices, mask=indices < 0))
    return np.asarray(pc.list_parent_indices(by_row), np.int64), np.asarray(pc.list_flatten(by_row), np.int64)


def text_values(column: Column) -> TextValues:
    """The values of a column as texts: numbers so that they can be read back exactly, booleans as ``true`` and
    ``false``, dates and times as ISO 8601 in UTC."""
    array = to_arrow(column)
    return _from_objects(to_list(column)) if array is None else _from_arrow(array)


def _from_arrow(array: pa.Array) -> TextValues:  # noqa: PLR0911 - one line a kind of column
    kind = array.type
    if isinstance(array, pa.DictionaryArray) or is_text(kind):
        found = distinct_values(array)
        if found is not None and (isinstance(array, pa.DictionaryArray) or len(found.values) < len(array)):
            return _from_arrow(found.values).expanded(found.indices, len(found.values))
    if is_text(kind):
        texts = to_utf8(array)
        return _from_objects(texts) if isinstance(texts, list) else _split_values(texts)
    if is_list(kind):
        parents = np.asarray(pc.list_parent_indices(array), np.int64)
        return replace(_from_arrow(pc.list_flatten(array)).reindexed(parents), multivalued=parents)
    if pa.types.is_floating(kind):
        return _from_floats(array.cast(pa.float64()))
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        return _single_values(array.cast(pa.string()))
    if pa.types.is_date(kind):
        return _single_values(array.cast(pa.date32(), safe=False).cast(pa.string()))
    if pa.types.is_timestamp(kind):
        ticks = array.cast(pa.int64()).cast(pa.timestamp(kind.unit))  # in UTC, whatever zones are known
        return _single_values(ticks.cast(pa.timestamp("us"), safe=False).cast(pa.string()))
    return _from_objects(to_list(array))


def _from_floats(array: pa.Array) -> TextValues:
    numbers = array.to_numpy(zero_copy_only=False)
    infinite = np.flatnonzero(np.isinf(numbers))
    found = _single_values(pa.array(numbers, mask=~np.isfinite(numbers)).cast(pa.string()))
    return TextValues(found.rows, found.codes, found.texts, unsupported=infinite)


def _single_values(texts: pa.Array) -> TextValues:
    """The values of texts made here: none is empty, too long or multivalued; null where there is none."""
    rows = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    return TextValues(rows, np.arange(len(rows), dtype=np.int32), texts.drop_null())


def _split_values(texts: pa.Array) -> TextValues:
    """The values of texts of the source: each non-empty part between separators is one."""
    rows = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    texts, multivalued = texts.drop_null(), _no_indices()
    separated = pc.match_substring(texts, SEPARATOR).to_numpy(zero_copy_only=False)
    if separated.any():
        multivalued = rows[separated]
        parts = pc.split_pattern(texts, SEPARATOR)
        rows, texts = rows[np.asarray(pc.list_parent_indices(parts), np.int64)], parts.flatten()
    texts = pc.utf8_trim_whitespace(texts)
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    usable = (lengths > 0) & (lengths <= MAX_VALUE_LENGTH)
    if not usable.all():
        texts = texts.filter(pa.array(usable))
    too_long = rows[lengths > MAX_VALUE_LENGTH]
    return TextValues(rows[usable], np.arange(len(texts), dtype=np.int32), texts, multivalued, too_long)


class _Unsupported(Exception):
    """A value that is not a text, number or time."""


def _from_objects(values: Iterable[Any]) -> TextValues:
    """The values of Python objects of mixed types."""
    rows: list[int] = []
    texts: list[str] = []
    multivalued: list[int] = []
    unsupported: list[int] = []
    for row, value in enumerate(values):
        is_container = isinstance(value, list | tuple | set | np.ndarray)
        if is_container:
            multivalued.append(row)
        for one in value if is_container else (value,):
            try:
                text = _as_text(one)
            except _Unsupported:
                unsupported.append(row)
                continue
            if text is not None:
                rows.append(row)
                texts.append(text)
    found = _split_values(pa.array(texts, pa.string())).reindexed(np.array(rows, np.int64))
    all_multivalued = np.union1d(found.multivalued, np.array(multivalued, np.int64))
    return replace(found, multivalued=all_multivalued, unsupported=np.array(unsupported, np.int64))


def _as_text(value: Any) -> str | None:  # noqa: PLR0911 - one line a kind of value
    """A single value as text; None if it is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value):
        return None
    if isinstance(value, str):
        return value if is_unicode(value) else _raise_unsupported()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < MAX_INTEGER else _raise_unsupported()
    if isinstance(value, float | Decimal):
        return _number_text(value)
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
    return str(value) if isinstance(value, UUID | date) else _raise_unsupported()


def _number_text(value: float | Decimal) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value) or not -MAX_INTEGER < value < MAX_INTEGER:
        return _raise_unsupported()
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def _raise_unsupported() -> str:
    raise _Unsupported
