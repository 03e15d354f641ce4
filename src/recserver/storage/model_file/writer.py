"""Model files written."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recserver.core.errors import quoted
from recserver.storage.model_file.format import (
    ARRAYS,
    BINBYTES8,
    CHECKSUM,
    DTYPES,
    JSON,
    MAX_ARRAYS,
    MAX_DIMENSIONS,
    MAX_HEADER,
    MAX_LABEL,
    OPENING,
    SETITEMS,
    STOP,
    TUPLE3,
    VERSION,
    Array,
    canonical_json,
    is_finite,
    padding,
    pickled_text,
)


@dataclass(frozen=True, slots=True)
class PackedFile:
    """What was written: ``size`` in bytes, ``sha256`` of the whole file in hex."""

    size: int
    sha256: str


def pack(path: Path, header: Mapping[str, JSON], arrays: Mapping[str, Array]) -> PackedFile:
    """Write ``path``, which must not exist yet, and fsync it; on any error no file is left behind.

    Takes contiguous or strided arrays of any byte order; floats must be finite. Raises ValueError or
    TypeError for what :func:`load` would refuse, OSError (FileExistsError included) for the disk.
    """
    prefix = _prefix(header)
    specs = {name: _spec(name, array) for name, array in arrays.items()}
    if len(specs) > MAX_ARRAYS:
        raise ValueError(f"A model file holds at most {MAX_ARRAYS} arrays, not {len(specs)}.")
    digest, size = hashlib.sha256(), 0
    file = path.open("xb")
    try:
        with file:
            for piece in _chunks(prefix, specs, arrays):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
            ending = digest.hexdigest().encode() + SETITEMS + STOP
            digest.update(ending)
            file.write(ending)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return PackedFile(size + len(ending), digest.hexdigest())


def _prefix(header: Mapping[str, JSON]) -> bytes:
    text = canonical_json(dict(header))
    if len(text) > MAX_HEADER:
        raise ValueError(f"The header of a model file may have {MAX_HEADER} bytes, not {len(text)}.")
    return OPENING + VERSION.to_bytes(2, "little") + pickled_text(b"header") + pickled_text(text) + ARRAYS


def _spec(name: str, array: Array) -> bytes:
    """The pickled name, dtype and shape of ``array``; ValueError if a model file cannot hold it."""
    dtype = array.dtype.newbyteorder("<").str
    if dtype not in DTYPES or array.ndim > MAX_DIMENSIONS or not 0 < len(name.encode()) <= MAX_LABEL:
        raise ValueError(f"A model file cannot hold the array {quoted(name)} of {array.dtype}, {array.ndim}-d.")
    if not is_finite(array):
        raise ValueError(f"The array {quoted(name)} holds NaN or infinity: no model can be made of it.")
    return pickled_text(name.encode()) + pickled_text(canonical_json([dtype, array.shape]))


def _chunks(
    prefix: bytes, specs: Mapping[str, bytes], arrays: Mapping[str, Array]
) -> Iterator[bytes | memoryview]:
    """The file up to its digest. At most one array is copied at a time, and only if it is not laid out so."""
    yield prefix
    at = len(prefix)
    for name, spec in specs.items():
        array = arrays[name]
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        opening = spec + padding(at + len(spec)) + BINBYTES8 + flat.size.to_bytes(8, "little")
        yield opening
        yield flat.data
        yield TUPLE3
        at += len(opening) + flat.size + 1
    yield CHECKSUM
