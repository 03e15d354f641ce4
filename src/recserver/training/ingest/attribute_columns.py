"""Attributes from their columns: of which kind each is, and how all of them are packed into a few arrays."""

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

from recserver.core.errors import shown
from recserver.recommend.filters import LONGEST_VALUE
from recserver.recommend.model.attribute_arrays import ARRAYS, EARLIEST, LATEST, Kind
from recserver.storage.model_file.id_table import pack_ids
from recserver.training.ingest.attribute_values import Texts
from recserver.training.ingest.id_encoding import Vocabulary
from recserver.training.ingest.value_parsing import numbers_of, times_of

UNMERGED_BYTES = 2**20
"""Texts of one column that wait to be merged; there may be many columns."""

INEXACT = r"^[+-]?(0\d+|\d{16,})$"
"""A whole number that is not the same as a float64, by its zeros or its length: it is a code, and stays text."""

ALMOST_ALL = 0.9
"""If so many of a column's distinct values are numbers, the others are probably mistakes."""

SAMPLED = 1000
"""Values that are looked at first: titles and names are no numbers, and looking at all of them takes long."""


@dataclass(frozen=True, slots=True)
class FoundAttribute:
    """One attribute of items.

    Attributes:
        items: int32, shape (values,): the item that each value is of.
        codes: int32, shape (values,): its place in ``texts``.
        texts: the distinct values, ascending by code points.
        worth: float64, shape (texts,): what they are as numbers or times; None for texts.
        several: whether items may have several values.
    """

    name: str
    kind: Kind
    items: NDArray[np.int32]
    codes: NDArray[np.int32]
    texts: list[str]
    worth: NDArray[np.float64] | None
    several: bool


class AttributeColumn:
    """Takes the values of one column as they come. ``n_overlong`` and ``n_foreign`` count what was left out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_overlong = self.n_foreign = 0
        self._vocabulary = Vocabulary(UNMERGED_BYTES)
        self._items: list[NDArray[np.int32]] = []
        self._several = False

    def add(self, found: Texts, items: NDArray[np.int32]) -> None:
        """Values of some rows; ``items``, shape (rows,), are the places of their items."""
        self.n_overlong += len(found.overlong)
        self.n_foreign += len(found.foreign)
        self._several = self._several or len(found.several) > 0
        self._vocabulary.add(found.codes, found.texts)
        self._items.append(items[found.rows])

    def finish(self) -> tuple[FoundAttribute | None, list[str]]:
        """The attribute, None if it has no values at all; and what is odd about it, a sentence each."""
        texts, codes = self._vocabulary.finish()
        items = np.concatenate(self._items) if self._items else np.empty(0, np.int32)
        self._items.clear()
        odd = self._left_out()
        if not texts:
            return None, odd
        kind, worth, exception = (Kind.TEXT, None, None) if self._several else _judged(texts)
        if exception is not None:
            odd.append(
                f"The attribute {shown(self.name)} is text because of values such as {shown(exception)}: almost "
                "all others are numbers or times."
            )
        return FoundAttribute(self.name, kind, items, codes, texts, worth, self._several), odd

    def _left_out(self) -> list[str]:
        said = []
        if self.n_overlong:
            said.append(
                f"{self.n_overlong} values of the attribute {shown(self.name)} are longer than {LONGEST_VALUE} "
                "characters and were left out."
            )
        if self.n_foreign:
            said.append(
                f"{self.n_foreign} values of the attribute {shown(self.name)} are no text, number, time or list "
                "of these, and were left out."
            )
        return said


def _judged(texts: Sequence[str]) -> tuple[Kind, NDArray[np.float64] | None, str | None]:
    """What kind these values are together, what each is worth as a number or time, and, if it is text, one of the
    few that make it so.

    Args:
        texts: distinct values, at least one.
    """
    sample = texts[:: 1 + len(texts) // SAMPLED]
    if len(sample) < len(texts) and _worth(pa.array(sample, pa.string()))[2].mean() < ALMOST_ALL / 2:
        return Kind.TEXT, None, None
    values = pa.array(texts, pa.string())
    kind, worth, good = _worth(values)
    exact = kind is Kind.TIME or not pc.any(pc.match_substring_regex(values, INEXACT)).as_py()
    if good.all() and exact:
        return kind, worth, None
    mostly = ALMOST_ALL <= good.mean() < 1
    return Kind.TEXT, None, texts[int(np.argmin(good))] if mostly else None


def _worth(values: pa.Array) -> tuple[Kind, NDArray[np.float64], NDArray[np.bool_]]:
    """What texts are worth as numbers, or as times if none is a number; and which of them are any."""
    numbers = numbers_of(values)
    finite = np.isfinite(numbers)
    if finite.any():
        return Kind.NUMBER, numbers, finite
    times = times_of(values)
    return Kind.TIME, times, (times >= EARLIEST) & (times <= LATEST)


@dataclass(frozen=True, slots=True)
class PackedAttributes:
    """All attributes as a model file holds them; see :mod:`recserver.recommend.model.attribute_arrays`.

    Attributes:
        header: what is listed in the file's header.
        arrays: by name.
    """

    header: list[dict[str, Any]]
    arrays: Mapping[str, NDArray[Any]]

    def digest(self) -> str:
        """SHA-256 over all of it."""
        digest = sha256(json.dumps(self.header, sort_keys=True).encode())
        for name in ARRAYS:
            array = self.arrays[name]
            digest.update(json.dumps([name, array.shape]).encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def pack_attributes(found: Sequence[FoundAttribute], n_items: int) -> PackedAttributes:
    """Attributes in the form of a model file; their numbers: of an item's several the last."""
    header: list[dict[str, Any]] = []
    terms: list[str] = []
    lengths, postings = [np.zeros(1, np.int64)], [np.empty(0, np.int32)]
    rows = sum(one.worth is not None for one in found)
    numbers, known = np.zeros((rows, n_items)), np.zeros((rows, n_items), np.uint8)
    row = 0
    for one in found:
        about: dict[str, Any] = {"name": one.name, "kind": one.kind.value}
        if one.worth is None:
            pairs = np.sort(one.codes.astype(np.int64) * n_items + one.items)
            pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])]  # np.unique takes several times as long
            items = (pairs % n_items).astype(np.int32)
            several = one.several or int(np.bincount(items).max(initial=0)) > 1
            about |= {"terms": len(one.texts), "several": several}
            terms += one.texts
            lengths.append(np.bincount(pairs // n_items, minlength=len(one.texts)))
            postings.append(items)
        else:
            numbers[row, one.items] = one.worth[one.codes]  # where an item stands there again, the last counts
            known[row, one.items] = 1
            row += 1
        header.append(about)
    text, offsets = pack_ids(terms)
    indptr = np.cumsum(np.concatenate(lengths), dtype=np.int64)
    arrays = (text, offsets, indptr, np.concatenate(postings), numbers, known)
    return PackedAttributes(header, dict(zip(ARRAYS, arrays, strict=True)))
