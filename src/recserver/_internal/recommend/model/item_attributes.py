"""Item attributes, such as genres, prices and dates, by which recommendations can be filtered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import ge, gt, le, lt
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from recserver._internal.core.clock import timestamp
from recserver._internal.core.errors import quoted
from recserver._internal.recommend.filters import Condition
from recserver._internal.recommend.model.attribute_arrays import (
    ARRAY_NAMES,
    HEADER_KEY,
    Arrays,
    Attribute,
    Kind,
    read_attributes,
)
from recserver._internal.storage.model_file.id_table import IdIndex

MAX_NAMED: Final = 20
"""Attributes that an error names at most."""

SparseRows = tuple[NDArray[np.int64], NDArray[np.int32]]

_COMPARE: Mapping[str, Callable[[Any, float], Any]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


@dataclass(frozen=True, slots=True, eq=False)
class Attributes:
    """The attributes of a model's items, laid out as ``attribute_arrays.py`` says. They are immutable.

    Attributes:
        n_items: how many items the model has.
        indptr: int64, shape (terms + 1,): the items that have term ``t``, a text of one attribute, are
            ``items[indptr[t]:indptr[t + 1]]``.
        items: int32, shape (pairs,): item indices, ascending within a term.
        numbers: float64, shape (numbers and times, items): their values, arbitrary where there is none.
        known: uint8, of the same shape: 1 where there is one, else 0.
        by_name: the attributes with their rows or terms, in the order of the source's columns.
    """

    n_items: int
    indptr: NDArray[np.int64]
    items: NDArray[np.int32]
    numbers: NDArray[np.float64]
    known: NDArray[np.uint8]
    by_name: Mapping[str, Attribute]
    _rows: dict[str, SparseRows] = field(default_factory=dict, repr=False)

    @classmethod
    def from_arrays(
        cls, header: Mapping[str, Any], arrays: Arrays, n_items: int, *, checked: bool = False
    ) -> Self | None:
        """Those of a model file; None if it has none.

        Args:
            checked: whether the content of the arrays was checked before.

        Raises:
            UnreadableModel: if they are inconsistent.
        """
        if HEADER_KEY not in header:
            return None
        named = read_attributes(header, arrays, n_items, checked=checked)
        _, _, indptr, items, numbers, known = (arrays[name] for name in ARRAY_NAMES)
        return cls(n_items, indptr, items, numbers, known, named)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all attributes."""
        return tuple(self.by_name)

    def mask(self, condition: Condition) -> NDArray[np.bool_]:
        """Which items meet a condition, shape (items,).

        Items without the attribute meet ``!=`` and no other operator.

        Raises:
            ValueError: if the attribute does not exist or is not ordered, or the value is of another kind.
        """
        attribute = self._attribute(condition.attribute)
        if attribute.terms is not None:
            matches = self._text_mask(attribute, attribute.terms, condition)
        else:
            numbers, known = self.numbers[attribute.row], self.known[attribute.row].view(np.bool_)
            values = [_parse_value(value, attribute.kind, condition.attribute) for value in condition.values]
            if condition.operator in _COMPARE:
                return np.asarray(_COMPARE[condition.operator](numbers, values[0]) & known, bool)
            matches = known & (numbers == values[0] if len(values) == 1 else np.isin(numbers, values))
        return ~matches if condition.operator == "!=" else matches

    def values_of(self, name: str) -> SparseRows:
        """The values of each item, as compressed sparse rows; computed once.

        Returns:
            int64, shape (items + 1,): where the row of each item begins and ends; and int32, the codes of its
            values, ascending. A code stands for a text, or for a distinct number or time, of this attribute.

        Raises:
            ValueError: if the attribute does not exist.
        """
        attribute = self._attribute(name)
        rows = self._rows.get(name)
        if rows is None:
            terms = attribute.terms
            rows = self._number_rows(attribute) if terms is None else self._text_rows(attribute, terms)
            for part in rows:
                part.flags.writeable = False
            self._rows[name] = rows
        return rows

    def item_values(self, index: int) -> dict[str, Any]:
        """The attributes of an item: name → number, time as ISO 8601 text, text, or list of texts where items may
        have several. Attributes without a value are absent.
        """
        content: dict[str, Any] = {}
        for name, attribute in self.by_name.items():
            if attribute.terms is not None:
                indptr, codes = self.values_of(name)
                texts = [attribute.terms[code] for code in codes[indptr[index] : indptr[index + 1]].tolist()]
                if texts:
                    content[name] = texts if attribute.multivalued or len(texts) > 1 else texts[0]
            elif self.known[attribute.row, index]:
                number = float(self.numbers[attribute.row, index])
                content[name] = _format_time(number) if attribute.kind is Kind.TIME else _to_json_number(number)
        return content

    def _attribute(self, name: str) -> Attribute:
        if name not in self.by_name:
            known = ", ".join(self.names[:MAX_NAMED]) + (", …" if len(self.names) > MAX_NAMED else "")
            raise ValueError(f"the model knows no attribute {quoted(name)} of items: it knows {known}")
        return self.by_name[name]

    def _text_mask(self, attribute: Attribute, terms: IdIndex, condition: Condition) -> NDArray[np.bool_]:
        if condition.operator in _COMPARE:
            raise ValueError(
                f"{quoted(condition.attribute)} is text, which {condition.operator} does not compare: use = or !="
            )
        matches = np.zeros(self.n_items, bool)
        for value in condition.values:
            code = terms.find(value)
            if code is not None:
                term = attribute.start + code
                matches[self.items[self.indptr[term] : self.indptr[term + 1]]] = True
        return matches

    def _text_rows(self, attribute: Attribute, terms: IdIndex) -> SparseRows:
        bounds = self.indptr[attribute.start : attribute.start + len(terms) + 1]
        items = self.items[bounds[0] : bounds[-1]]
        codes = np.repeat(np.arange(len(terms), dtype=np.int32), np.diff(bounds))
        by_item = np.sort(items.astype(np.int64) << 32 | codes)  # several times faster than sorting indices
        return self._indptr(np.bincount(items, minlength=self.n_items)), (by_item & 0xFFFF_FFFF).astype(np.int32)

    def _number_rows(self, attribute: Attribute) -> SparseRows:
        known = self.known[attribute.row].view(np.bool_)
        codes = np.unique(self.numbers[attribute.row][known], return_inverse=True)[1]
        return self._indptr(known), codes.astype(np.int32)

    def _indptr(self, counts: NDArray[Any]) -> NDArray[np.int64]:
        indptr = np.zeros(self.n_items + 1, np.int64)
        np.cumsum(counts, out=indptr[1:])
        return indptr


def require_attributes(attributes: Attributes | None) -> Attributes:
    """``attributes``, if the model has any.

    Raises:
        ValueError: if it has none.
    """
    if attributes is None:
        raise ValueError(
            "the model knows no attributes of items: give its task an item_features_data_chef_id, then train it"
        )
    return attributes


def parse_time(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 date or time, UTC unless it has a time zone; NaN if invalid."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan


def _parse_value(text: str, kind: Kind, name: str) -> float:
    """The number that is stored for a value."""
    if kind is Kind.TIME:
        value, expected = parse_time(text), "a time: write it like 2020-01-31 or 2020-01-31T18:30:00Z"
    else:
        value, expected = _parse_number(text), "a number: write it like 20 or 19.99"
    if math.isnan(value):
        raise ValueError(f"{quoted(text)} is no value of {quoted(name)}, which is {expected}")
    return value


def _parse_number(text: str) -> float:
    if "_" in text or not text.isascii():
        return math.nan  # Python alone would accept 1_000 and digits of other scripts
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _to_json_number(number: float) -> int | float:
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _format_time(seconds: float) -> str:
    return timestamp(datetime.fromtimestamp(seconds, UTC))
