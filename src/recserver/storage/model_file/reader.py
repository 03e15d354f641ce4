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

from recserver.core.errors import ModelUnavailable, UnreadableModel, quoted
from recserver.storage.model_file.format import (
    ALIGNMENT,
    ARRAYS,
    BINBYTES8,
    CHECKSUM,
    DTYPES,
    MAX_ARRAYS,
    MAX_DIMENSIONS,
    MAX_FILE_BYTES,
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
    verified: bool = False


class _InvalidFile(Exception):
    """Why the file is not a model file, as half a sentence."""


def load(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> Artifact:
    """The model file at ``path``, after checking its form, its checksum and its numbers.

    Raises UnreadableModel for all that is foreign, damaged, hostile, newer or larger than ``max_bytes``, and
    ModelUnavailable for what cannot be read just now; FileNotFoundError passes through. Never blocks on a FIFO,
    never runs content.
    """
    with _translate_errors(path.name):
        return _parse(_read_bytes(path, max_bytes), quoted(path.name))


def parse(content: npt.NDArray[np.uint8], name: str, *, sha256: str | None = None) -> Artifact:
    """The model file ``name`` of which ``content`` is a copy that nobody writes to, uncopied.

    Its form is always checked; its checksum and numbers are not if ``sha256``, the digest of that very copy, tells
    that they have been. Raises UnreadableModel as :func:`load` does.
    """
    with _translate_errors(name):
        return _parse(content, quoted(name), sha256)


def check_ends(path: Path) -> None:
    """Tell by its beginning and its end whether there is a model file at ``path``, without reading the rest.

    What was cut short, foreign, or of another version raises UnreadableModel; damage in between does not show.
    """
    with _translate_errors(path.name), _open_regular(path, MAX_FILE_BYTES) as (file, size):
        opening = file.read(len(OPENING) + 2)
        file.seek(max(0, size - len(CHECKSUM) - 66))
        ending = file.read()
        _expect_version(_Parser(memoryview(opening)), quoted(path.name))
        if not (ending.startswith(CHECKSUM) and ending.endswith(SETITEMS + STOP)):
            raise _InvalidFile("it is cut off")


@contextlib.contextmanager
def _translate_errors(file_name: str) -> Iterator[None]:
    """Make of everything that is wrong with a model file a sentence about it."""
    name = quoted(file_name)
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
    except (_InvalidFile, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        reason = str(error) if isinstance(error, _InvalidFile) else "its content makes no sense"
        raise UnreadableModel(
            f"The model file {name} was not written by recserver or is damaged ({reason}): train the model again.",
            reason,
        ) from error


class _Parser:
    """Walks over the opcodes of the one grammar; every step raises _Refused when something else is there."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.offset = view, 0

    def take(self, count: int) -> memoryview:
        if count > len(self.view) - self.offset:
            raise _InvalidFile("it is cut off")
        self.offset += count
        return self.view[self.offset - count : self.offset]

    def expect(self, literal: bytes) -> None:
        if self.take(len(literal)) != literal:
            raise _InvalidFile("it has another form")

    def text(self, limit: int) -> bytes:
        self.expect(b"X")
        count = int.from_bytes(self.take(4), "little")
        if count > limit:
            raise _InvalidFile("a text in it is too long")
        return bytes(self.take(count))

    def entry(self) -> tuple[bytes, bytes, slice]:
        """The name, the JSON text of dtype and shape, and the place of the payload of the next array."""
        name, spec = self.text(MAX_LABEL), self.text(MAX_LABEL)
        self.expect(padding(self.offset) + BINBYTES8)
        payload = slice(self.offset + 8, self.offset + 8 + int.from_bytes(self.take(8), "little"))
        self.take(payload.stop - payload.start)
        self.expect(TUPLE3)
        return name, spec, payload


@contextlib.contextmanager
def _open_regular(path: Path, max_bytes: int) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file that is not too large, and its size."""
    # Without O_NONBLOCK a FIFO that nobody writes to would hold the open for ever.
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _InvalidFile("it is not a regular file")
        if status.st_size > max_bytes:
            raise UnreadableModel(
                f"The model file {quoted(path.name)} has {status.st_size} bytes, more than the {max_bytes} "
                "allowed: train a smaller model.",
                f"it has more than {max_bytes} bytes",
            )
        if status.st_size == 0:
            raise _InvalidFile("it is empty")
        with os.fdopen(fd, "rb", closefd=False) as file:
            yield file, status.st_size
    finally:
        os.close(fd)


def _read_bytes(path: Path, max_bytes: int) -> npt.NDArray[np.uint8]:
    # Read, not mapped: a file that somebody writes over in place would change under the answers given from
    # it, and one that is cut short would end the whole process.
    with _open_regular(path, max_bytes) as (file, size):
        space = np.empty(size + ALIGNMENT, np.uint8)
        start = -space.ctypes.data % ALIGNMENT
        content = space[start : start + size]
        if file.readinto(content.data) != size:
            raise _InvalidFile("it became shorter while it was read")
    space.flags.writeable = content.flags.writeable = False
    return content


def _expect_version(parser: _Parser, name: str) -> None:
    """Walk over the opening and the number of the format."""
    parser.expect(OPENING)
    version = int.from_bytes(parser.take(2), "little")
    if version > VERSION:
        raise UnreadableModel(
            f"The model file {name} was written by a newer recserver (format {version}, this one reads up to "
            f"{VERSION}): update recserver or train the model again.",
            "a newer recserver wrote it",
        )
    if version < 1:
        raise _InvalidFile("it names no format")


def _parse(raw: npt.NDArray[np.uint8], name: str, known_sha256: str | None = None) -> Artifact:
    """Form first, then the checksum, and only then what the texts and numbers mean.

    Args:
        known: the digest of the whole, if the checksum and the numbers have been checked.
    """
    walk = _Parser(raw.data)
    _expect_version(walk, name)
    walk.expect(pickled_text(b"header"))
    header = walk.text(MAX_HEADER)
    walk.expect(ARRAYS)
    entries: list[tuple[bytes, bytes, slice]] = []
    while walk.view[walk.offset : walk.offset + 1] != SETITEMS:
        if len(entries) == MAX_ARRAYS:
            raise _InvalidFile("it has too many arrays")
        entries.append(walk.entry())
    walk.expect(CHECKSUM)
    sha256 = known_sha256 or _verify_checksum(walk)
    arrays = {label.decode(): _array(raw, spec, place) for label, spec, place in entries}
    fields = _parse_canonical_json(header)
    if len(arrays) != len(entries) or not isinstance(fields, dict):
        raise _InvalidFile("it names one array twice or its header is no object")
    if not known_sha256 and not all(map(is_finite, arrays.values())):
        raise _InvalidFile("it holds NaN or infinity")
    return Artifact(fields, arrays, sha256, len(walk.view), known_sha256 is not None)


def _verify_checksum(parser: _Parser) -> str:
    """The digest of the whole file, if what stands after the walk is the checksum and nothing else."""
    digest = hashlib.sha256(parser.view[: parser.offset])
    ending = digest.hexdigest().encode() + SETITEMS + STOP
    if parser.view[parser.offset :] != ending:
        raise _InvalidFile("its checksum is wrong or something follows it")
    digest.update(ending)
    return digest.hexdigest()


def _parse_canonical_json(text: bytes) -> Any:
    """The value of a JSON text, refused unless it is the text pack() would write.

    That rules out NaN, infinity, lone surrogates and doubled keys at once.
    """
    value = json.loads(text)
    if canonical_json(value) != text:
        raise _InvalidFile("a text in it is not as recserver writes it")
    return value


def _array(raw: npt.NDArray[np.uint8], spec: bytes, payload: slice) -> Array:
    """The bytes of ``raw`` at ``place`` as the array that ``spec`` describes, uncopied."""
    match _parse_canonical_json(spec):
        case [str(dtype), list(shape)] if dtype in DTYPES and len(shape) <= MAX_DIMENSIONS:
            pass
        case _:
            raise _InvalidFile("it has an array of a kind that models do not have")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise _InvalidFile("it has an array of impossible shape")
    if math.prod(shape) * np.dtype(dtype).itemsize != payload.stop - payload.start:
        raise _InvalidFile("it has an array whose shape does not fit its bytes")
    return np.ndarray(shape, dtype, buffer=raw, offset=payload.start)
