"""The format of model files for their reader and writer: opcodes, limits, fixed parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Array: TypeAlias = npt.NDArray[Any]

VERSION = 1
ALIGNMENT = 64
MAX_FILE_BYTES = 16 * 2**30
"""Bytes of a model file."""
DTYPES = frozenset({"<f4", "<f8", "<i4", "<i8", "<u4", "<u8", "|u1"})
MAX_HEADER = 16 * 2**20
MAX_ARRAYS = 64
MAX_LABEL = 1024  # bytes of an array's name, and of its dtype and shape
MAX_DIMENSIONS = 8
_CHUNK_SIZE = 2**18  # elements checked together: small enough for the CPU cache, large enough for NumPy

BINBYTES8, SETITEMS, TUPLE3, STOP = b"\x8e", b"u", b"\x87", b"."
_DICT = b"}("  # EMPTY_DICT, MARK; SETITEMS closes it
_HEX_OPENING = b"X" + (64).to_bytes(4, "little")


def pickled_text(content: bytes) -> bytes:
    """The pickle of a text."""
    return b"X" + len(content).to_bytes(4, "little") + content


def canonical_json(value: object) -> bytes:
    """The canonical JSON text of a value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


OPENING = (
    b"\x80\x05"
    + _DICT
    + pickled_text(b"format")
    + pickled_text(b"recserver-model")
    + pickled_text(b"version")
    + b"M"
)
ARRAYS = pickled_text(b"arrays") + _DICT
CHECKSUM = SETITEMS + pickled_text(b"sha256") + _HEX_OPENING


def padding(offset: int) -> bytes:
    """The padding at file ``offset`` that makes the payload after the next BINBYTES8 start aligned."""
    count = -(offset + 2 * 9) % ALIGNMENT
    return BINBYTES8 + count.to_bytes(8, "little") + bytes(count)


def is_finite(array: Array) -> bool:
    """Whether no number is NaN or infinite."""
    if array.dtype.kind != "f":
        return True
    flat = array.reshape(-1)
    return all(
        bool(np.isfinite(flat[start : start + _CHUNK_SIZE]).all()) for start in range(0, flat.size, _CHUNK_SIZE)
    )
