"""Reading model files, without unpickling them."""

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

from recserver._internal.core.errors import ModelUnavailable, UnreadableModel, quoted
from recserver._internal.storage.model_file import format as fmt
from recserver._internal.storage.model_file.format import Array


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """The content of a model file that passed every check. Later changes of the file do not affect it.

    Attributes:
        arrays: read-only views of the content.
        sha256: of the whole file, in hex.
        size: in bytes.
        verified: whether the numbers in the arrays were checked before, also by the model that was made of them.
    """

    header: dict[str, Any]
    arrays: dict[str, Array]
    sha256: str
    size: int
    verified: bool = False


class _InvalidFile(Exception):
    """Why the file is not a model file, as half a sentence."""


def load(path: Path, *, max_bytes: int = fmt.MAX_FILE_BYTES) -> Artifact:
    """The model file at ``path``, after a check of its form, checksum and numbers. Never runs its content.

    Raises:
        UnreadableModel: if it is foreign, damaged, hostile, of a newer format or larger than ``max_bytes``.
        ModelUnavailable: if it cannot be read at the moment.
        FileNotFoundError: if it does not exist.
    """
    with _translate_errors(path.name):
        return _parse(_read_bytes(path, max_bytes), quoted(path.name))


def parse(content: npt.NDArray[np.uint8], name: str, *, sha256: str | None = None) -> Artifact:
    """The model file ``name`` from its ``content``, which must not change; it is not copied.

    Args:
        sha256: the digest of the content if it was checked before: the checksum and numbers are not checked again.

    Raises:
        UnreadableModel: as :func:`load` does.
    """
    with _translate_errors(name):
        return _parse(content, quoted(name), sha256)


def check_ends(path: Path) -> None:
    """Check only the beginning and the end of a model file.

    Raises:
        UnreadableModel: if it is truncated, foreign or of another format. Damage in between is not found.
    """
    with _translate_errors(path.name), _open_regular(path, fmt.MAX_FILE_BYTES) as (file, size):
        opening = file.read(len(fmt.OPENING) + 2)
        file.seek(max(0, size - len(fmt.CHECKSUM) - 66))
        ending = file.read()
        _expect_version(_Parser(memoryview(opening)), quoted(path.name))
        if not (ending.startswith(fmt.CHECKSUM) and ending.endswith(fmt.SETITEMS + fmt.STOP)):
            raise _InvalidFile("it is cut off")


@contextlib.contextmanager
def _translate_errors(file_name: str) -> Iterator[None]:
    """Translate any error in reading a model file to an UnreadableModel about it."""
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
    """Reads the expected opcodes one after the other; raises _InvalidFile where something else follows."""

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
        """The name, the JSON text of dtype and shape, and the position of the payload of the next array."""
        name, spec = self.text(fmt.MAX_LABEL), self.text(fmt.MAX_LABEL)
        self.expect(fmt.padding(self.offset) + fmt.BINBYTES8)
        payload = slice(self.offset + 8, self.offset + 8 + int.from_bytes(self.take(8), "little"))
        self.take(payload.stop - payload.start)
        self.expect(fmt.TUPLE3)
        return name, spec, payload


@contextlib.contextmanager
def _open_regular(path: Path, max_bytes: int) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file that is not too large; yields it and its size."""
    # Without O_NONBLOCK, opening a FIFO without a writer would never return.
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
    # Not mapped: overwriting the file in place would change recommendations, truncating it would kill the process.
    with _open_regular(path, max_bytes) as (file, size):
        space = np.empty(size + fmt.ALIGNMENT, np.uint8)
        start = -space.ctypes.data % fmt.ALIGNMENT
        content = space[start : start + size]
        if file.readinto(content.data) != size:
            raise _InvalidFile("it became shorter while it was read")
    space.flags.writeable = content.flags.writeable = False
    return content


def _expect_version(parser: _Parser, name: str) -> None:
    """Read the opening and the number of the format."""
    parser.expect(fmt.OPENING)
    version = int.from_bytes(parser.take(2), "little")
    if version > fmt.VERSION:
        raise UnreadableModel(
            f"The model file {name} was written by a newer recserver (format {version}, this one reads up to "
            f"{fmt.VERSION}): update recserver or train the model again.",
            "a newer recserver wrote it",
        )
    if version < 1:
        raise _InvalidFile("it names no format")


def _parse(raw: npt.NDArray[np.uint8], name: str, known_sha256: str | None = None) -> Artifact:
    """Check the form first, then the checksum, and only then interpret the texts and numbers."""
    parser = _Parser(raw.data)
    _expect_version(parser, name)
    parser.expect(fmt.pickled_text(b"header"))
    header = parser.text(fmt.MAX_HEADER)
    parser.expect(fmt.ARRAYS)
    entries: list[tuple[bytes, bytes, slice]] = []
    while parser.view[parser.offset : parser.offset + 1] != fmt.SETITEMS:
        if len(entries) == fmt.MAX_ARRAYS:
            raise _InvalidFile("it has too many arrays")
        entries.append(parser.entry())
    parser.expect(fmt.CHECKSUM)
    sha256 = known_sha256 or _verify_checksum(parser)
    arrays = {label.decode(): _array(raw, spec, payload) for label, spec, payload in entries}
    fields = _parse_canonical_json(header)
    if len(arrays) != len(entries) or not isinstance(fields, dict):
        raise _InvalidFile("it names one array twice or its header is no object")
    if not known_sha256 and not all(map(fmt.is_finite, arrays.values())):
        raise _InvalidFile("it holds NaN or infinity")
    return Artifact(fields, arrays, sha256, len(parser.view), known_sha256 is not None)


def _verify_checksum(parser: _Parser) -> str:
    """The digest of the whole file; what follows must be the checksum and nothing else."""
    digest = hashlib.sha256(parser.view[: parser.offset])
    ending = digest.hexdigest().encode() + fmt.SETITEMS + fmt.STOP
    if parser.view[parser.offset :] != ending:
        raise _InvalidFile("its checksum is wrong or something follows it")
    digest.update(ending)
    return digest.hexdigest()


def _parse_canonical_json(text: bytes) -> Any:
    """The value of a JSON text that must be exactly what pack() writes.

    That rules out NaN, infinity, lone surrogates and duplicate keys.
    """
    value = json.loads(text)
    if fmt.canonical_json(value) != text:
        raise _InvalidFile("a text in it is not as recserver writes it")
    return value


def _array(raw: npt.NDArray[np.uint8], spec: bytes, payload: slice) -> Array:
    """The bytes ``raw[payload]`` as the array that ``spec`` describes, not copied."""
    match _parse_canonical_json(spec):
        case [str(dtype), list(shape)] if dtype in fmt.DTYPES and len(shape) <= fmt.MAX_DIMENSIONS:
            pass
        case _:
            raise _InvalidFile("it has an array of a kind that models do not have")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise _InvalidFile("it has an array of impossible shape")
    if math.prod(shape) * np.dtype(dtype).itemsize != payload.stop - payload.start:
        raise _InvalidFile("it has an array whose shape does not fit its bytes")
    return np.ndarray(shape, dtype, buffer=raw, offset=payload.start)
