"""Attributes from their columns: the kind of each, and all of them packed into a few arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recserver._internal.core.errors import quoted
from recserver._internal.recommend.filters import MAX_VALUE_LENGTH
from recserver._internal.recommend.model.attribute_arrays import ARRAY_NAMES, MAX_TIME, MIN_TIME, Kind
from recserver._internal.storage.model_file.id_table import pack_ids
from recserver._internal.training.ingest.attribute_values import TextValues
from recserver._internal.training.ingest.id_encoding import Vocabulary
from recserver._internal.training.ingest.value_parsing import parse_numbers, parse_times

MAX_PENDING_BYTES = 2**20
"""Bytes of one column's texts that wait to be merged; there may be many columns."""

CODE_PATTERN = r"^[+-]?(0\d+|\d{16,})$"
"""An integer that changes as a float64, by its leading zeros or its length: it is a code, and stays text."""

MOSTLY_NUMERIC_SHARE = 0.9
"""If at least this share of a column's distinct values are numbers, the others are probably mistakes."""

SAMPLE_SIZE = 1000
"""Values that are parsed first: titles and names are not numbers, and parsing all of them takes long."""


@dataclass(frozen=True, slots=True)
class EncodedAttribute:
    """One attribute of items.

    Attributes:
        items: int32, shape (values,): the item of each value.
        codes: int32, shape (values,): its index in ``texts``.
        texts: the distinct values, ascending by code points.
        numbers: float64, shape (texts,): the texts as numbers or times; None for the kind text.
        multivalued: whether items may have several values.
    """

    name: str
    kind: Kind
    items: NDArray[np.int32]
    codes: NDArray[np.int32]
    texts: list[str]
    numbers: NDArray[np.float64] | None
    multivalued: bool


class AttributeColumn:
    """Collects the values of one column. ``n_too_long`` and ``n_unsupported`` count values left out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_too_long = self.n_unsupported = 0
        self._vocabulary = Vocabulary(MAX_PENDING_BYTES)
        self._items: list[NDArray[np.int32]] = []
        self._multivalued = False

    def add(self, values: TextValues, items: NDArray[np.int32]) -> None:
        """Add the values of some rows; ``items``, shape (rows,), are the indices of their items."""
        self.n_too_long += len(values.too_long)
        self.n_unsupported += len(values.unsupported)
        self._multivalued = self._multivalued or len(values.multivalued) > 0
        self._vocabulary.add(values.codes, values.texts)
        self._items.append(items[values.rows])

    def finish(self) -> tuple[EncodedAttribute | None, list[str]]:
        """The attribute, None if it has no values at all; and warnings, one sentence each."""
        texts, codes = self._vocabulary.finish()
        items = np.concatenate(self._items) if self._items else np.empty(0, np.int32)
        self._items.clear()
        skipped = {
            f"longer than {MAX_VALUE_LENGTH} characters": self.n_too_long,
            "not a text, number, time or list of these,": self.n_unsupported,
        }
        warnings = [
            f"{count} values of the attribute {quoted(self.name)} are {what} and were left out."
            for what, count in skipped.items()
            if count
        ]
        if not texts:
            return None, warnings
        kind, numbers, exception = (Kind.TEXT, None, None) if self._multivalued else _detect_kind(texts)
        if exception is not None:
            warnings.append(
                f"The attribute {quoted(self.name)} is text because of values such as {quoted(exception)}: almost "
                "all others are numbers or times."
            )
        return EncodedAttribute(self.name, kind, items, codes, texts, numbers, self._multivalued), warnings


def _detect_kind(texts: Sequence[str]) -> tuple[Kind, NDArray[np.float64] | None, str | None]:
    """The kind of these values, each of them as a number or time, and, if almost all of a text attribute are
    numbers, one of those that are not.

    Args:
        texts: distinct values, at least one.
    """
    sample = texts[:: 1 + len(texts) // SAMPLE_SIZE]
    if (
        len(sample) < len(texts)
        and _as_numbers(pa.array(sample, pa.string()))[2].mean() < MOSTLY_NUMERIC_SHARE / 2
    ):
        return Kind.TEXT, None, None
    values = pa.array(texts, pa.string())
    kind, numbers, is_valid = _as_numbers(values)
    exact = kind is Kind.TIME or not pc.any(pc.match_substring_regex(values, CODE_PATTERN)).as_py()
    if is_valid.all() and exact:
        return kind, numbers, None
    mostly = MOSTLY_NUMERIC_SHARE <= is_valid.mean() < 1
    return Kind.TEXT, None, texts[int(np.argmin(is_valid))] if mostly else None


def _as_numbers(values: pa.Array) -> tuple[Kind, NDArray[np.float64], NDArray[np.bool_]]:
    """Texts as numbers, or as times if none is a number; and which of them are valid."""
    numbers = parse_numbers(values)
    finite = np.isfinite(numbers)
    if finite.any():
        return Kind.NUMBER, numbers, finite
    times = parse_times(values)
    return Kind.TIME, times, (times >= MIN_TIME) & (times <= MAX_TIME)


@dataclass(frozen=True, slots=True)
class PackedAttributes:
    """All attributes as a model file holds them; see :mod:`recserver._internal.recommend.model.attribute_arrays`.

    Attributes:
        header: the list in the file's header.
        arrays: by name.
    """

    header: list[dict[str, Any]]
    arrays: Mapping[str, NDArray[Any]]

    def digest(self) -> str:
        """SHA-256 over all of it."""
        digest = sha256(json.dumps(self.header, sort_keys=True).encode())
        for name in ARRAY_NAMES:
            array = self.arrays[name]
            digest.update(json.dumps([name, array.shape]).encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def pack_attributes(attributes: Sequence[EncodedAttribute], n_items: int) -> PackedAttributes:
    """Attributes in the form of a model file. Of several numbers of an item the last one counts."""
    header: list[dict[str, Any]] = []
    terms: list[str] = []
    lengths, postings = [np.zeros(1, np.int64)], [np.empty(0, np.int32)]
    rows = sum(one.numbers is not None for one in attributes)
    numbers, known = np.zeros((rows, n_items)), np.zeros((rows, n_items), np.uint8)
    row = 0
    for one in attributes:
        about: dict[str, Any] = {"name": one.name, "kind": one.kind.value}
        if one.numbers is None:
            pairs = np.sort(one.codes.astype(np.int64) * n_items + one.items)
            pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])]  # np.unique takes several times as long
            items = (pairs % n_items).astype(np.int32)
            is_multivalued = one.multivalued or int(np.bincount(items).max(initial=0)) > 1
            about |= {"terms": len(one.texts), "several": is_multivalued}
            terms += one.texts
            lengths.append(np.bincount(pairs // n_items, minlength=len(one.texts)))
            postings.append(items)
        else:
            numbers[row, one.items] = one.numbers[one.codes]  # the last value of an item counts
            known[row, one.items] = 1
            row += 1
        header.append(about)
    text, offsets = pack_ids(terms)
    indptr = np.cumsum(np.concatenate(lengths), dtype=np.int64)
    arrays = (text, offsets, indptr, np.concatenate(postings), numbers, known)
    return PackedAttributes(header, dict(zip(ARRAY_NAMES, arrays, strict=True)))
