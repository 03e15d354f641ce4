"""Indexes of user and item ids: compact on disk and in memory, searched without a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from recserver._internal.core.errors import UnreadableModel

Array = npt.NDArray[Any]

_BLOCK = 2**18  # ids checked together


def pack_ids(ids: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """``ids``, ascending by UTF-8 bytes and unique, as one UTF-8 blob (u1) and n + 1 byte offsets (i8).

    Raises UnicodeEncodeError for an id with a lone surrogate.
    """
    encoded = [text.encode() for text in ids]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


class IdIndex(Sequence[str]):
    """Ids in ascending order of their UTF-8 bytes, read from the two arrays of :func:`pack_ids`, uncopied.

    Raises UnreadableModel unless the arrays hold valid, strictly ascending (so unique) ids. ``checked`` skips that
    check.
    """

    __slots__ = ("_blob", "_offsets")

    def __init__(self, blob: Array, offsets: Array, *, checked: bool = False) -> None:
        if not checked:
            _check_ids(blob, offsets)
        self._blob = np.ascontiguousarray(blob).data
        # Indexing a memoryview gives an int several times faster than indexing an array.
        self._offsets = np.require(offsets, requirements=["C", "A"]).data

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.ids_at(range(*index.indices(len(self))))
        position = range(len(self))[index]
        return str(self._blob[self._offsets[position] : self._offsets[position + 1]], "utf-8")

    def ids_at(self, positions: Iterable[int]) -> list[str]:
        """The ids at these non-negative positions."""
        blob, offsets = self._blob, self._offsets
        return [str(blob[offsets[one] : offsets[one + 1]], "utf-8") for one in positions]

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and self.find(value) is not None

    def find(self, text: str) -> int | None:
        """The position of ``text``; None if it is not among the ids."""
        try:
            key = text.encode()
        except UnicodeEncodeError:
            return None
        position, offsets = self._lower_bound(key), self._offsets
        found = position < len(self) and self._blob[offsets[position] : offsets[position + 1]] == key
        return position if found else None

    def page(self, n: int, prefix: str = "", after: str = "") -> range:
        """The positions of the first ``n`` ids that begin with ``prefix`` and come after ``after``."""
        start, encoded_prefix = self._lower_bound(prefix.encode()), prefix.encode()
        if after:
            start = max(start, self._lower_bound(after.encode() + b"\0"))
        end = start
        while end < min(start + n, len(self)) and self._bytes(end).startswith(encoded_prefix):
            end += 1
        return range(start, end)

    def _bytes(self, position: int) -> bytes:
        return self._blob[self._offsets[position] : self._offsets[position + 1]].tobytes()

    def _lower_bound(self, key: bytes) -> int:
        """The first position whose id is not less than ``key``."""
        blob, offsets = self._blob, self._offsets
        low, high = 0, len(offsets) - 1
        while low < high:
            middle = (low + high) >> 1
            if blob[offsets[middle] : offsets[middle + 1]].tobytes() < key:
                low = middle + 1
            else:
                high = middle
        return low


def _check_ids(blob: Array, offsets: Array) -> None:
    """Raise UnreadableModel unless ``blob`` and ``offsets`` are what :func:`pack_ids` makes of ascending ids."""
    if blob.dtype != np.uint8 or offsets.dtype != np.int64 or blob.ndim != 1 or offsets.ndim != 1:
        raise _invalid("its arrays are of the wrong kind")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(blob) or (offsets[1:] < offsets[:-1]).any():
        raise _invalid("its offsets do not fit")
    starts = offsets[:-1][offsets[:-1] < len(blob)]
    if ((blob[starts] & 0xC0) == 0x80).any():
        raise _invalid("it cuts a character in two")
    previous: list[bytes] = []
    for first in range(0, len(offsets) - 1, _BLOCK):
        bounds = offsets[first : first + _BLOCK + 1].tolist()
        text = blob[bounds[0] : bounds[-1]].tobytes()
        try:
            text.decode()
        except UnicodeDecodeError:
            raise _invalid("it holds bytes that are not UTF-8") from None
        ids = previous + [text[start - bounds[0] : stop - bounds[0]] for start, stop in pairwise(bounds)]
        if not all(one < other for one, other in pairwise(ids)):
            raise _invalid("its ids are not in order or not unique")
        previous = ids[-1:]


def _invalid(reason: str) -> UnreadableModel:
    return UnreadableModel(f"A model's table of ids is damaged ({reason}): train the model again.", reason)
