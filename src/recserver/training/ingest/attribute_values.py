"""The values of one column of attributes: whatever kind of column it is, as texts that are worth the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recserver.chefs.protocol import Column
from recserver.recommend.filters import MAX_VALUE_LENGTH
from recserver.training.ingest.id_encoding import (
    distinct_values,
    is_list,
    is_missing,
    is_text,
    to_arrow,
    to_list,
    to_utf8,
)

SEPARATOR = "|"
"""Between several values in one text."""

MAX_INTEGER = 10**300
"""A whole number beyond is no value: written out, it could fill the memory."""

Indices = NDArray[np.int64]


def _no_indices() -> Indices:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class TextValues:
    """The values of the rows of a column. Missing ones are not among them, and a row may have several.

    Attributes:
        rows: int64, shape (values,): the row of each value.
        codes: int32, shape (values,): its place in ``texts``.
        texts: Arrow text, none empty or longer than 256 characters. Some may stand there twice, or not occur.
        several: int64: rows whose value is a list, or a text with a separator.
        overlong, foreign: int64: rows of values that are left out, because they are too long, or no text, number,
            time or list of these.
    """

    rows: Indices
    codes: NDArray[np.int32]
    texts: pa.Array
    multivalued: Indices = field(default_factory=_no_indices)
    too_long: Indices = field(default_factory=_no_indices)
    unsupported: Indices = field(default_factory=_no_indices)

    def reindexed(self, parents: Indices) -> TextValues:
        """The same for rows of which each of these is a part: ``parents`` names the row for each."""
        several, overlong, foreign = (parents[one] for one in (self.multivalued, self.too_long, self.unsupported))
        return TextValues(parents[self.rows], self.codes, self.texts, several, overlong, foreign)

    def expanded(self, indices: NDArray[np.int32], n_values: int) -> TextValues:
        """The same for rows of which each holds one of these: ``places`` says which, -1 none."""
        several, overlong, foreign = (
            _expand_indices(one, indices, n_values)[0]
            for one in (self.multivalued, self.too_long, self.unsupported)
        )
        rows, which = _expand_indices(self.rows, indices, n_values)
        return TextValues(rows, self.codes[which], self.texts, several, overlong, foreign)


def _expand_indices(held: Indices, indices: NDArray[np.int32], n_values: int) -> tuple[Indices, Indices]:
    """The rows that hold a value of which something is told in ``held``, and where in ``held``.

    Args:
        held: ascending places of values, several of one among them.
        places: for each row the place of its value, -1 for none.
    """
    counts = np.append(np.bincount(held, minlength=n_values), 0)  # place -1 is the last
    starts = np.append(np.cumsum(counts[:-1]) - counts[:-1], 0)
    lengths = counts[indices]
    rows = np.repeat(np.arange(len(indices)), lengths)
    ends = np.cumsum(lengths)
    which = np.repeat(starts[indices] - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)
    return rows, which


def text_values(column: Column) -> TextValues:
    """The values of a column as texts: numbers so that they are read back as the same, booleans as ``true`` and
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
        found_within = _from_arrow(pc.list_flatten(array)).reindexed(parents)
        return TextValues(
            found_within.rows, found_within.codes, found_within.texts, parents, found_within.too_long,
            found_within.unsupported,
        )  # fmt: skip
    if pa.types.is_floating(kind):
        return _from_floats(array.cast(pa.float64()))
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        return _single_values(array.cast(pa.string()))
    if pa.types.is_date(kind):
        return _single_values(array.cast(pa.date32(), safe=False).cast(pa.string()))
    if pa.types.is_timestamp(kind):
        ticks = array.cast(pa.int64()).cast(pa.timestamp(kind.unit))  # in UTC, whatever zones this machine knows
        return _single_values(ticks.cast(pa.timestamp("us"), safe=False).cast(pa.string()))
    return _from_objects(to_list(array))


def _from_floats(array: pa.Array) -> TextValues:
    numbers = array.to_numpy(zero_copy_only=False)
    infinite = np.flatnonzero(np.isinf(numbers))
    found = _single_values(pa.array(numbers, mask=~np.isfinite(numbers)).cast(pa.string()))
    return TextValues(found.rows, found.codes, found.texts, unsupported=infinite)


def _single_values(texts: pa.Array) -> TextValues:
    """Of texts that were made here: none is empty, long, or several values; null where there is none."""
    rows = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    return TextValues(rows, np.arange(len(rows), dtype=np.int32), texts.drop_null())


def _split_values(texts: pa.Array) -> TextValues:
    """Of texts as they are in the source: each part of them that is not empty is a value."""
    rows = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    texts, several = texts.drop_null(), _no_indices()
    separated = pc.match_substring(texts, SEPARATOR).to_numpy(zero_copy_only=False)
    if separated.any():
        several = rows[separated]
        parts = pc.split_pattern(texts, SEPARATOR)
        rows, texts = rows[np.asarray(pc.list_parent_indices(parts), np.int64)], parts.flatten()
    texts = pc.utf8_trim_whitespace(texts)
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    usable = (lengths > 0) & (lengths <= MAX_VALUE_LENGTH)
    if not usable.all():
        texts = texts.filter(pa.array(usable))
    overlong = rows[lengths > MAX_VALUE_LENGTH]
    return TextValues(rows[usable], np.arange(len(texts), dtype=np.int32), texts, several, overlong)


class _Unsupported(Exception):
    """A value that is no text, number or time."""


def _from_objects(values: Iterable[object]) -> TextValues:
    """Of values of kinds that Arrow does not know together."""
    rows: list[int] = []
    texts: list[str] = []
    several: list[int] = []
    foreign: list[int] = []
    for row, value in enumerate(values):
        if isinstance(value, list | tuple | set | np.ndarray):
            several.append(row)
        for one in _parts(value):
            try:
                text = _as_text(one)
            except _Unsupported:
                foreign.append(row)
                continue
            if text is not None:
                rows.append(row)
                texts.append(text)
    found = _split_values(pa.array(texts, pa.string())).reindexed(np.array(rows, np.int64))
    together = np.union1d(found.multivalued, np.array(several, np.int64))
    return TextValues(found.rows, found.codes, found.texts, together, found.too_long, np.array(foreign, np.int64))


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple | set | np.ndarray):
        yield from value
    else:
        yield value


def _as_text(value: Any) -> str | None:  # noqa: PLR0911 - one line a kind of value
    """A single value as text; None if there is none."""
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value):
        return None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Unsupported from None
        return value
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
