"""Model files read back, without unpickling them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recserver.core.errors import ModelUnavailable, UnreadableModel, shown
from recserver.storage.model_file.format import (
    ALIGNMENT,
    ARRAYS,
    BINBYTES8,
    CHECKSUM,
    DTYPES,
    LARGEST,
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
    dump,
    finite,
    padding,
    text_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A model file that passed every check. ``arrays`` are read-only views onto its content.

    ``size`` in bytes, ``sha256`` of the whole file in hex. Nothing that happens to the file touches them.
    ``checked``: what the arrays hold has been looked at before, by whoever makes a model of them as well.
    """

    header: dict[str, Any]
    arrays: dict[str, Array]
    sha256: str
    size: int
    checked: bool = False


class _Refused(Exception):
    """Why the file is not a model file, as half a sentence."""


def load(path: Path, *, max_bytes: int = LARGEST) -> Artifact:
    """The model file at ``path``, after checking its form, its checksum and its numbers.

    Raises UnreadableModel for all that is foreign, damaged, hostile, newer or larger than ``max_bytes``, and
    ModelUnavailable for what cannot be read just now; FileNotFoundError passes through. Never blocks on a FIFO,
    never runs content.
    """
    with _told(path.name):
        return _parse(_content(path, max_bytes), shown(path.name))


def parse(content: npt.NDArray[np.uint8], name: str, *, sha256: str | None = None) -> Artifact:
    """The model file ``name`` of which ``content`` is a copy that nobody writes to, uncopied.

    Its form is always checked; its checksum and numbers are not if ``sha256``, the digest of that very copy, tells
    that they have been. Raises UnreadableModel as :func:`load` does.
    """
    with _told(name):
        return _parse(content, shown(name), sha256)


def look(path: Path) -> None:
    """Tell by its beginning and its end whether there is a model file at ``path``, without reading the rest.

    What was cut short, foreign, or of another version raises UnreadableModel; damage in between does not show.
    """
    with _told(path.name), _opened(path, LARGEST) as (file, size):
        opening = file.read(len(OPENING) + 2)
        file.seek(max(0, size - len(CHECKSUM) - 66))
        ending = file.read()
        _version(_Walk(memoryview(opening)), shown(path.name))
        if not (ending.startswith(CHECKSUM) and ending.endswith(SETITEMS + STOP)):
            raise _Refused("it is cut off")


@contextlib.contextmanager
def _told(file_name: str) -> Iterator[None]:
    """Make of everything that is wrong with a model file a sentence about it."""
    name = shown(file_name)
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, MemoryError) as error:
        cause = "memory is short" if isinstance(error, MemoryError) else error.strerror or error
        raise ModelUnavailable(
            f"The model file {name} cannot be read ({cause}): check its permissions and "
            "the disk, or train the model again.",
            str(cause),
        ) from error
    except (_Refused, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        reason = str(error) if isinstance(error, _Refused) else "its content makes no sense"
        raise UnreadableModel(
            f"The model file {name} was not written by recserver or is damaged ({reason}): train the model again.",
            reason,
        ) from error


class _Walk:
    """Walks over the opcodes of the one grammar; every step raises _Refused when something else is there."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.at = view, 0

    def take(self, count: int) -> memoryview:
        if count > len(self.view) - self.at:
            raise _Refused("it is cut off")
        self.at += count
        return self.view[self.at - count : self.at]

    def expect(self, literal: bytes) -> None:
        if self.take(len(literal)) != literal:
            raise _Refused("it has another form")

    def text(self, limit: int) -> bytes:
        self.expect(b"X")
        count = int.from_bytes(self.take(4), "little")
        if count > limit:
            raise _Refused("a text in it is too long")
        return bytes(self.take(count))

    def entry(self) -> tuple[bytes, bytes, slice]:
        """The name, the JSON text of dtype and shape, and the place of the payload of the next array."""
        name, spec = self.text(MAX_LABEL), self.text(MAX_LABEL)
        self.expect(padding(self.at) + BINBYTES8)
        payload = slice(self.at + 8, self.at + 8 + int.from_bytes(self.take(8), "little"))
        self.take(payload.stop - payload.start)
        self.expect(TUPLE3)
        return name, spec, payload


@contextlib.contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file that is not too large, and its size."""
    # Without O_NONBLOCK a FIFO that nobody writes to would hold the open for ever.
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _Refused("it is not a regular file")
        if status.st_size > max_bytes:
            raise UnreadableModel(
                f"The model file {shown(path.name)} has {status.st_size} bytes, more than the {max_bytes} "
                "allowed: train a smaller model.",
                f"it has more than {max_bytes} bytes",
            )
        if status.st_size == 0:
            raise _Refused("it is empty")
        with os.fdopen(fd, "rb", closefd=False) as file:
            yield file, status.st_size
    finally:
        os.close(fd)


def _content(path: Path, max_bytes: int) -> npt.NDArray[np.uint8]:
    # Read, not mapped: a file that somebody writes over in place would change under the answers given from
    # it, and one that is cut short would end the whole process.
    with _opened(path, max_bytes) as (file, size):
        space = np.empty(size + ALIGNMENT, np.uint8)
        start = -space.ctypes.data % ALIGNMENT
        content = space[start : start + size]
        if file.readinto(content.data) != size:
            raise _Refused("it became shorter while it was read")
    space.flags.writeable = content.flags.writeable = False
    return content


def _version(walk: _Walk, name: str) -> None:
    """Walk over the opening and the number of the format."""
    walk.expect(OPENING)
    version = int.from_bytes(walk.take(2), "little")
    if version > VERSION:
        raise UnreadableModel(
            f"The model file {name} was written by a newer recserver (format {version}, this one reads up to "
            f"{VERSION}): update recserver or train the model again.",
            "a newer recserver wrote it",
        )
    if version < 1:
        raise _Refused("it names no format")


def _parse(raw: npt.NDArray[np.uint8], name: str, known: str | None = None) -> Artifact:
    """Form first, then the checksum, and only then what the texts and numbers mean.

    Args:
        known: the digest of the whole, if the checksum and the numbers have been checked.
    """
    walk = _Walk(raw.data)
    _version(walk, name)
    walk.expect(text_of(b"header"))
    header = walk.text(MAX_HEADER)
    walk.expect(ARRAYS)
    entries: list[tuple[bytes, bytes, slice]] = []
    while walk.view[walk.at : walk.at + 1] != SETITEMS:
        if len(entries) == MAX_ARRAYS:
            raise _Refused("it has too many arrays")
        entries.append(walk.entry())
    walk.expect(CHECKSUM)
    sha256 = known or _checked(walk)
    arrays = {label.decode(): _array(raw, spec, place) for label, spec, place in entries}
    fields = _undump(header)
    if len(arrays) != len(entries) or not isinstance(fields, dict):
        raise _Refused("it names one array twice or its header is no object")
    if not known and not all(map(finite, arrays.values())):
        raise _Refused("it holds NaN or infinity")
    return Artifact(fields, arrays, sha256, len(walk.view), known is not None)


def _checked(walk: _Walk) -> str:
    """The digest of the whole file, if what stands after the walk is the checksum and nothing else."""
    digest = hashlib.sha256(walk.view[: walk.at])
    ending = digest.hexdigest().encode() + SETITEMS + STOP
    if walk.view[walk.at :] != ending:
        raise _Refused("its checksum is wrong or something follows it")
    digest.update(ending)
    return digest.hexdigest()


def _undump(text: bytes) -> Any:
    """The value of a JSON text, refused unless it is the text pack() would write.

    That rules out NaN, infinity, lone surrogates and doubled keys at once.
    """
    value = json.loads(text)
    if dump(value) != text:
        raise _Refused("a text in it is not as recserver writes it")
    return value


def _array(raw: npt.NDArray[np.uint8], spec: bytes, place: slice) -> Array:
    """The bytes of ``raw`` at ``place`` as the array that ``spec`` describes, uncopied."""
    match _undump(spec):
        case [str(dtype), list(shape)] if dtype in DTYPES and len(shape) <= MAX_DIMENSIONS:
            pass
        case _:
            raise _Refused("it has an array of a kind that models do not have")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise _Refused("it has an array of impossible shape")
    if math.prod(shape) * np.dtype(dtype).itemsize != place.stop - place.start:
        raise _Refused("it has an array whose shape does not fit its bytes")
    return np.ndarray(shape, dtype, buffer=raw, offset=place.start)
