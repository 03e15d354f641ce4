"""Ids of users and items: from the values of columns to codes in a vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recserver._internal.chefs.protocol import Column
from recserver._internal.core.validation.values import MAX_ENTITY_ID_LENGTH, entity_id

INVALID_REASONS = (
    "is missing",
    "is empty",
    f"is longer than {MAX_ENTITY_ID_LENGTH} characters",
    "is neither text nor a number",
    "is not valid Unicode",
)
"""Why a value is not an id; the code of such a value is -1 minus the index of the reason."""

_MISSING, _EMPTY, _TOO_LONG, _WRONG_TYPE, _NOT_UNICODE = range(-1, -1 - len(INVALID_REASONS), -1)

MAX_PENDING_BYTES = 32 * 2**20
"""Ids that wait to be merged into the vocabulary may take this much memory, or as much as the vocabulary."""

Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EncodedIds:
    """The ids of one column of one batch.

    Attributes:
        codes: int32, shape (rows,): the index in ``ids``; negative, see :data:`INVALID_REASONS`, if not an id.
        ids: Arrow text, distinct.
    """

    codes: Codes
    ids: pa.Array


@dataclass(frozen=True, slots=True)
class DistinctValues:
    """A column as its distinct values.

    Attributes:
        indices: int32, shape (rows,): the index in ``values``, -1 where there is no value.
        values: the distinct values; 1 and 1.0 may both occur.
    """

    indices: Codes
    values: pa.Array


def to_arrow(column: Column) -> pa.Array | None:
    """``column`` as one Arrow array; None if Arrow has no common type for its values."""
    if isinstance(column, pa.ChunkedArray):
        combined = column.combine_chunks()
        column = pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
    if isinstance(column, pa.Array):  # few functions of Arrow accept string views
        return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column
    kind = pd.api.types.infer_dtype(column, skipna=True) if column.dtype == object else "native"
    known = {"string": pa.string(), "integer": pa.int64(), "native": None, "empty": pa.null()}
    if kind not in known:  # above all mixed values: Arrow would make integers inexact
        return None
    try:
        return pa.array(column, known[kind], from_pandas=True)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return None


def distinct_values(column: pa.Array) -> DistinctValues | None:
    """The distinct values of an Arrow array; None if its values cannot be compared."""
    if not isinstance(column, pa.DictionaryArray):
        try:
            column = column.dictionary_encode()
        except (pa.ArrowNotImplementedError, AttributeError):
            return None
    indices = pc.fill_null(column.indices.cast(pa.int32()), -1).to_numpy()
    values = column.dictionary
    if values.null_count:  # a chef may put null into the dictionary as well
        is_null = values.is_null().to_numpy(zero_copy_only=False)
        indices = np.where((indices >= 0) & is_null[indices], np.int32(-1), indices)
    return DistinctValues(indices, values)


def encode_ids(column: Column) -> EncodedIds:
    """Encode the values of a column as ids, each distinct value once."""
    array = to_arrow(column)
    distinct = None if array is None else distinct_values(array)
    if distinct is None:
        return _encode_objects(to_list(column))
    encoded = _encode_distinct(distinct.values)
    return EncodedIds(
        np.append(encoded.codes, np.int32(_MISSING))[distinct.indices], encoded.ids
    )  # index -1 is the last


def _encode_distinct(values: pa.Array) -> EncodedIds:
    kind = values.type
    if not (is_text(kind) or pa.types.is_integer(kind)):
        return _encode_objects(to_list(values))
    texts = to_utf8(values)
    if isinstance(texts, list):
        return _encode_objects(texts)
    lengths = pc.fill_null(pc.utf8_length(texts), 1).to_numpy()
    codes = np.arange(len(texts), dtype=np.int32)
    codes[lengths == 0] = _EMPTY
    codes[lengths > MAX_ENTITY_ID_LENGTH] = _TOO_LONG
    return EncodedIds(codes, texts)


def _encode_objects(values: Iterable[object]) -> EncodedIds:
    ids: dict[str, int] = {}
    results = (_id_or_reason(value) for value in values)
    codes = np.fromiter(
        (result if isinstance(result, int) else ids.setdefault(result, len(ids)) for result in results), np.int32
    )
    return EncodedIds(codes, pa.array(list(ids), pa.string()))


def to_utf8(values: pa.Array) -> pa.Array | list[str | None]:
    """Values as Arrow text; as Python's, with surrogates for the wrong bytes, if some are not UTF-8."""
    try:
        texts = values.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowInvalid:
        binary = values.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in binary]
    return texts


def is_missing(value: object) -> bool:
    """Whether it stands for no value: None, NaN, NA or NaT."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _id_or_reason(value: object) -> str | int:
    """The id of a value of a source, or the code of the reason why it is not an id."""
    if isinstance(value, Decimal) and value.is_finite():
        if value and abs(value.adjusted()) >= MAX_ENTITY_ID_LENGTH:
            return _TOO_LONG  # as text it could fill the memory
        is_integer = value == value.to_integral_value()
        value = int(value) if is_integer else format(value, "f").rstrip("0")  # 7.50 is 7.5
    elif isinstance(value, UUID | np.generic):
        value = str(value) if isinstance(value, UUID) else value.item()
    if is_missing(value):
        return _MISSING
    if isinstance(value, str) and not is_unicode(value):
        return _NOT_UNICODE
    try:
        return entity_id(value)
    except ValueError:
        if not isinstance(value, str | int) or isinstance(value, bool):
            return _WRONG_TYPE
        return _EMPTY if value == "" else _TOO_LONG


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Vocabulary:
    """All ids of one kind. Many batches are merged at a time, as each merge builds a hash table."""

    def __init__(self, max_pending_bytes: int = MAX_PENDING_BYTES) -> None:
        """
        Args:
            max_pending_bytes: that ids waiting to be merged may take, if the vocabulary itself takes less.
        """
        self._max_pending_bytes = max_pending_bytes
        self._ids = pa.array([], pa.string())
        self._merged: list[Codes] = []
        self._pending: list[EncodedIds] = []

    def add(self, codes: Codes, ids: pa.Array) -> None:
        """Add rows: int32 indices in ``ids``, none negative."""
        self._pending.append(EncodedIds(codes, ids))
        if sum(one.ids.nbytes for one in self._pending) > max(self._max_pending_bytes, self._ids.nbytes):
            self._merge()

    def finish(self) -> tuple[list[str], NDArray[np.int32]]:
        """The ids of the rows added, ascending by code points, and for each row the index of its id."""
        self._merge()
        codes = np.concatenate(self._merged) if self._merged else np.empty(0, np.int32)
        self._merged.clear()
        occurs = np.bincount(codes, minlength=len(self._ids)) > 0
        order = pc.array_sort_indices(self._ids).to_numpy()  # Arrow compares UTF-8, which sorts like code points
        order = order[occurs[order]]
        indices = np.empty(len(self._ids), np.int32)
        indices[order] = np.arange(len(order), dtype=np.int32)
        ids: list[str] = self._ids.take(pa.array(order)).to_pylist()
        return ids, np.take(indices, codes)

    def _merge(self) -> None:
        if not self._pending:
            return
        merged = pa.concat_arrays([self._ids, *(one.ids for one in self._pending)]).dictionary_encode()
        table = merged.indices.to_numpy()
        start = len(self._ids)
        for one in self._pending:
            self._merged.append(np.take(table[start : start + len(one.ids)], one.codes))
            start += len(one.ids)
        self._ids = merged.dictionary
        self._pending.clear()


def value_at(column: Column, row: int) -> Any:
    """One value of a column as a Python object."""
    value = column[row]
    return _as_python(value) if isinstance(value, pa.Scalar) else value


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of its kinds of list."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of its kinds of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def to_list(column: Column) -> list[Any]:
    """All values of a column as Python objects."""
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        return list(column.tolist())
    try:
        values: list[Any] = column.to_pylist()
    except _CONVERSION_ERRORS:
        return [_as_python(value) for value in column]
    return values


class _Unrepresentable:
    """A value that Python cannot represent: not an id, a number or a time."""

    def __repr__(self) -> str:
        return "(cannot be shown)"


_CONVERSION_ERRORS = (ValueError, ArithmeticError, KeyError, pa.ArrowException)
"""Dates before the year 1 or after 9999, time zones unknown to this machine (KeyError where pytz is installed),
text that is not UTF-8, decimals with invalid scales."""


def _as_python(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except _CONVERSION_ERRORS:
        return _Unrepresentable()
