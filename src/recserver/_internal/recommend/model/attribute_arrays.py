"""The layout of item attributes in a model file, and the checks of it.

The texts of all attributes are one table, in which each attribute has a range, and the items of each text are a
compressed sparse row. Numbers and times are one matrix with a row for each attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver._internal.core.errors import UnreadableModel
from recserver._internal.recommend.filters import is_attribute_name
from recserver._internal.storage.model_file.id_table import IdIndex

HEADER_KEY = "attributes"
"""The key of a model file's header that lists the attributes, in the order of the arrays."""

ARRAY_NAMES = (
    "attribute_text",
    "attribute_offsets",
    "attribute_indptr",
    "attribute_items",
    "attribute_numbers",
    "attribute_known",
)

MAX_ATTRIBUTES = 32

MIN_TIME, MAX_TIME = -62_135_596_800.0, 253_402_300_799.0
"""Seconds since 1970: the years 1 to 9999, the range of datetime."""

Arrays = Mapping[str, NDArray[Any]]


class Kind(StrEnum):
    """The type of an attribute's values."""

    TEXT = "text"
    """An item may have several."""
    NUMBER = "number"
    TIME = "time"
    """Seconds since 1970 in UTC."""


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """One attribute.

    Attributes:
        row: of ``attribute_numbers``, for a number or a time.
        terms: the distinct texts, for a text; ``start`` is the index of the first among those of all attributes.
        multivalued: whether items may have several texts.
    """

    kind: Kind
    row: int = 0
    terms: IdIndex | None = None
    start: int = 0
    multivalued: bool = False


def read_attributes(
    header: Mapping[str, Any], arrays: Arrays, n_items: int, *, checked: bool
) -> dict[str, Attribute]:
    """The attributes that a model file's header lists, by name, in its order.

    Args:
        checked: whether the content of the arrays was checked before.

    Raises:
        UnreadableModel: if header and arrays are inconsistent.
    """
    if missing := [name for name in ARRAY_NAMES if name not in arrays]:
        raise _inconsistent(f"{missing[0]!r} is missing")
    text, offsets, indptr, items, numbers, known = (arrays[name] for name in ARRAY_NAMES)
    if not checked:
        _check_terms(text, offsets, indptr, items, n_items)
        _check_numbers(numbers, known, n_items)
    named = _parse_header(header[HEADER_KEY], text, offsets, checked=checked)
    if sum(attribute.kind is not Kind.TEXT for attribute in named.values()) != len(numbers):
        raise _inconsistent("its header lists another number of numeric attributes")
    for attribute in named.values():
        if attribute.kind is Kind.TIME and not checked:
            times = numbers[attribute.row][known[attribute.row] == 1]
            if not ((times >= MIN_TIME) & (times <= MAX_TIME)).all():
                raise _inconsistent("a time is not in the years 1 to 9999")
    return named


def _parse_header(
    listed: Any, text: NDArray[Any], offsets: NDArray[Any], *, checked: bool
) -> dict[str, Attribute]:
    """The attributes that a header lists, each with its part of the texts or its row of the numbers."""
    attributes: dict[str, Attribute] = {}
    start = row = 0
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_ATTRIBUTES:
        raise _inconsistent("its header lists no attributes")
    for described in listed:
        match described:
            case {"name": str(name), "kind": "text", "terms": int(terms), "several": bool(several)}:
                stop = start + terms
                if terms < 0 or stop >= len(offsets):
                    raise _inconsistent("its header lists too many texts")
                part, bounds = text[offsets[start] : offsets[stop]], offsets[start : stop + 1] - offsets[start]
                table = IdIndex(part, bounds, checked=checked)
                attributes[name] = Attribute(Kind.TEXT, terms=table, start=start, multivalued=several)
                start = stop
            case {"name": str(name), "kind": "number" | "time" as kind}:
                attributes[name] = Attribute(Kind(kind), row=row)
                row += 1
            case _:
                raise _inconsistent("its header describes an attribute in an unknown form")
        if not is_attribute_name(name):
            raise _inconsistent("its header has an invalid attribute name")
    if len(attributes) != len(listed):
        raise _inconsistent("its header has the same attribute twice")
    if start != len(offsets) - 1:
        raise _inconsistent("its header lists too few texts")
    return attributes


def _check_terms(
    text: NDArray[Any], offsets: NDArray[Any], indptr: NDArray[Any], items: NDArray[Any], n_items: int
) -> None:
    """Refuse inconsistent arrays of texts and the items that have them."""
    types = [(str(array.dtype), array.ndim) for array in (text, offsets, indptr, items)]
    if types != [("uint8", 1), ("int64", 1), ("int64", 1), ("int32", 1)]:
        raise _inconsistent("the arrays of texts have wrong types")
    ends = ((offsets, len(text)), (indptr, len(items)))
    if not len(offsets) or len(offsets) != len(indptr) or any(ptr[0] != 0 or ptr[-1] != end for ptr, end in ends):
        raise _inconsistent("the shapes of the texts differ")
    if (offsets[1:] < offsets[:-1]).any() or (indptr[1:] < indptr[:-1]).any():
        raise _inconsistent("offsets of texts decrease")
    begins = np.zeros(len(items), bool)
    begins[indptr[:-1][indptr[:-1] < len(items)]] = True
    ascending = (items[1:] > items[:-1]) | begins[1:]
    if not ascending.all() or not ((items >= 0) & (items < n_items)).all():
        raise _inconsistent("the items of a text are not ascending or do not exist")


def _check_numbers(numbers: NDArray[Any], known: NDArray[Any], n_items: int) -> None:
    consistent = numbers.dtype == np.float64 and known.dtype == np.uint8 and numbers.ndim == 2
    if not consistent or numbers.shape[1] != n_items or known.shape != numbers.shape or (known > 1).any():
        raise _inconsistent("the shapes of the numbers differ")


def _inconsistent(reason: str) -> UnreadableModel:
    return UnreadableModel(
        f"The item attributes in the model file are inconsistent ({reason}): train the model again.", reason
    )
