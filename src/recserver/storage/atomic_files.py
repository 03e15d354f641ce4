"""Files read and written so that nobody ever sees half of one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import aiofiles.os

from recserver.core.errors import InvalidInput
from recserver.core.validation.json_depth import levels
from recserver.storage.disk import Disk

LARGEST_DOCUMENT = 2**20
"""Bytes of a JSON or YAML file."""

DEEPEST = 64
"""Levels that a JSON file may be nested."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")

P = ParamSpec("P")
T = TypeVar("T")

PRIVATE = 0o600
READABLE = 0o644

disk = Disk()
"""Through which everything is changed that is on the disk."""


async def read_document(path: Path, largest: int = LARGEST_DOCUMENT) -> bytes:
    """The content of a small regular file.

    Args:
        largest: bytes that it may have.

    Raises:
        FileNotFoundError: if there is none.
        InvalidInput: if it is no regular file, or larger than that.
        OSError: if it cannot be read.
    """
    return await asyncio.to_thread(document_in, path, largest)


def document_in(path: Path, largest: int = LARGEST_DOCUMENT) -> bytes:
    """What :func:`read_document` returns, read in the calling thread."""
    with open(path, "rb", opener=without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInput(f"{path.name} is not a regular file: put one in its place, or remove it.")
        content = file.read(largest + 1)
    if len(content) > largest:
        raise InvalidInput(f"{path.name} is larger than {largest} bytes: make it smaller.")
    return content


async def read_object(path: Path, largest: int = LARGEST_DOCUMENT) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: if there is none.
        InvalidInput: if it cannot be read as one, with the reason.
    """
    return await asyncio.to_thread(object_in, path, largest)


def object_in(path: Path, largest: int = LARGEST_DOCUMENT) -> dict[str, Any]:
    """What :func:`read_object` returns, read in the calling thread."""
    try:
        content = json.loads(document_in(path, largest), parse_constant=_no_number, parse_float=_finite)
        if any(depth >= DEEPEST for depth, _ in enumerate(levels(content))):
            raise ValueError(f"it is nested deeper than {DEEPEST}")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path.name} is not valid JSON: {error}. Correct the file.") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{path.name} holds no JSON object: correct the file.")
    return content


async def write_object(path: Path, content: dict[str, Any], mode: int = READABLE) -> None:
    """Replace ``path`` by ``content`` as JSON, whole or not at all."""
    await write_whole(path, as_json(content), mode)


def as_json(content: dict[str, Any]) -> bytes:
    """``content`` as a file that people can read."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")  # half a character stays an escape


async def write_whole(path: Path, content: bytes, mode: int = READABLE) -> None:
    """Replace ``path`` by ``content``, whole or not at all, and durably once this returns.

    Cancelling waits for the end, so that no write outlives its call and overtakes the next one.
    """
    await to_the_end(put_whole, path, content, mode)


async def to_the_end(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """Do ``work`` in a thread. Cancelling waits for its end."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *given, **named))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


def put_whole(path: Path, content: bytes, mode: int = READABLE) -> None:
    """What :func:`write_whole` does, in the calling thread."""
    temporary = temporary_beside(path)
    try:
        disk.create(temporary, content, mode)
        put_in_place(temporary, path)
    except BaseException:
        forget(temporary)
        raise


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished file to its name, durably. It replaces what was there."""
    disk.replace(temporary, path)
    disk.sync_folder(path.parent)


def forget(temporary: Path) -> None:
    """Remove a file that is of no more use, if it is there; what cannot be removed now, the next start removes."""
    with contextlib.suppress(OSError):
        disk.unlink(temporary)


async def remove(paths: Iterable[Path]) -> list[Path]:
    """Remove the files that exist, durably, and name them."""
    return await to_the_end(unlink, paths)


def unlink(paths: Iterable[Path]) -> list[Path]:
    """What :func:`remove` does, in the calling thread."""
    removed = []
    for path in paths:
        try:
            disk.unlink(path)
        except FileNotFoundError:
            continue
        removed.append(path)
    for folder in {path.parent for path in removed}:
        disk.sync_folder(folder)
    return removed


async def names_in(folder: Path, *endings: str) -> list[str]:
    """The names of the folder's files with one of the endings, ascending.

    Hidden ones are passed over, and so are those that are not Unicode: nobody could be told of them.
    """
    try:
        names = await aiofiles.os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(endings) and not name.startswith(".") and _is_text(name))


def is_plain_name(name: str) -> bool:
    """Whether ``name`` is that of a file in its folder that is not hidden, and not the way to another."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0") and Path(name).name == name


def is_called_so(path: Path) -> bool:
    """Whether there is a file of exactly that name: where ``A`` and ``a`` are one file they are not one name."""
    if not os.path.lexists(path):
        return False
    other_case = path.with_name(path.name.swapcase())
    return not os.path.lexists(other_case) or path.name in os.listdir(path.parent)  # noqa: PTH208 - names alone


async def clear_temporaries(folder: Path) -> None:
    """Remove what a killed server left half written."""
    try:
        names = await aiofiles.os.listdir(folder)
    except FileNotFoundError:
        return
    for name in filter(_is_temporary, names):
        with contextlib.suppress(OSError):  # litter is no reason not to start
            await remove([folder / name])


def temporary_beside(path: Path) -> Path:
    """A new hidden name beside ``path``, which no listing of models or tasks picks up."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def _is_temporary(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def regular_status(path: Path) -> os.stat_result | None:
    """Status of a regular file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """What tells one state of a file from another."""
    return status.st_mtime_ns, status.st_size, status.st_ino


def without_waiting(path: str, flags: int) -> int:
    """For ``opener`` of :func:`open`: of a named pipe, do not wait for who would write to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)
