"""Writing model files."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recserver._internal.core.errors import quoted
from recserver._internal.storage.model_file import format as fmt
from recserver._internal.storage.model_file.format import JSON, Array


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A model file that was written: ``size`` in bytes, ``sha256`` of the whole file in hex."""

    size: int
    sha256: str


def pack(path: Path, header: Mapping[str, JSON], arrays: Mapping[str, Array]) -> PackedFile:
    """Write and fsync ``path``, which must not exist yet. On any error no file remains.

    Args:
        arrays: contiguous or strided, of any byte order; floats must be finite.

    Raises:
        ValueError, TypeError: for what :func:`load` would reject.
        OSError: if it cannot be written, or exists.
    """
    prefix = _prefix(header)
    specs = {name: _spec(name, array) for name, array in arrays.items()}
    if len(specs) > fmt.MAX_ARRAYS:
        raise ValueError(f"A model file holds at most {fmt.MAX_ARRAYS} arrays, not {len(specs)}.")
    digest, size = hashlib.sha256(), 0
    file = path.open("xb")
    try:
        with file:
            for piece in _chunks(prefix, specs, arrays):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
            ending = digest.hexdigest().encode() + fmt.SETITEMS + fmt.STOP
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
    text = fmt.canonical_json(dict(header))
    if len(text) > fmt.MAX_HEADER:
        raise ValueError(f"The header of a model file may have {fmt.MAX_HEADER} bytes, not {len(text)}.")
    return (
        fmt.OPENING
        + fmt.VERSION.to_bytes(2, "little")
        + fmt.pickled_text(b"header")
        + fmt.pickled_text(text)
        + fmt.ARRAYS
    )


def _spec(name: str, array: Array) -> bytes:
    """The pickled name, dtype and shape of ``array``; ValueError if a model file cannot hold it."""
    dtype = array.dtype.newbyteorder("<").str
    if dtype not in fmt.DTYPES or array.ndim > fmt.MAX_DIMENSIONS or not 0 < len(name.encode()) <= fmt.MAX_LABEL:
        raise ValueError(f"A model file cannot hold the array {quoted(name)} of {array.dtype}, {array.ndim}-d.")
    if not fmt.is_finite(array):
        raise ValueError(f"The array {quoted(name)} holds NaN or infinity: no model can be made of it.")
    return fmt.pickled_text(name.encode()) + fmt.pickled_text(fmt.canonical_json([dtype, array.shape]))


def _chunks(
    prefix: bytes, specs: Mapping[str, bytes], arrays: Mapping[str, Array]
) -> Iterator[bytes | memoryview]:
    """The file up to its digest. At most one array is copied at a time, and only if its layout differs."""
    yield prefix
    offset = len(prefix)
    for name, spec in specs.items():
        array = arrays[name]
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        opening = spec + fmt.padding(offset + len(spec)) + fmt.BINBYTES8 + flat.size.to_bytes(8, "little")
        yield opening
        yield flat.data
        yield fmt.TUPLE3
        offset += len(opening) + flat.size + 1
    yield fmt.CHECKSUM
