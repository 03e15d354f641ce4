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

MAX_DOCUMENT_BYTES = 2**20
"""Bytes of a JSON or YAML file."""

MAX_DEPTH = 64
"""Levels that a JSON file may be nested."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")

P = ParamSpec("P")
T = TypeVar("T")

PRIVATE = 0o600
READABLE = 0o644

disk = Disk()
"""Through which everything is changed that is on the disk."""


async def read_document(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The content of a small regular file.

    Args:
        largest: bytes that it may have.

    Raises:
        FileNotFoundError: if there is none.
        InvalidInput: if it is no regular file, or larger than that.
        OSError: if it cannot be read.
    """
    return await asyncio.to_thread(read_document_sync, path, max_bytes)


def read_document_sync(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """What :func:`read_document` returns, read in the calling thread."""
    with open(path, "rb", opener=open_nonblocking) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInput(f"{path.name} is not a regular file: put one in its place, or remove it.")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InvalidInput(f"{path.name} is larger than {max_bytes} bytes: make it smaller.")
    return content


async def read_object(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: if there is none.
        InvalidInput: if it cannot be read as one, with the reason.
    """
    return await asyncio.to_thread(read_object_sync, path, max_bytes)


def read_object_sync(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> dict[str, Any]:
    """What :func:`read_object` returns, read in the calling thread."""
    try:
        content = json.loads(
            read_document_sync(path, max_bytes), parse_constant=_reject_constant, parse_float=_parse_finite
        )
        if any(depth >= MAX_DEPTH for depth, _ in enumerate(levels(content))):
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
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
    await write_atomic(path, json_bytes(content), mode)


def json_bytes(content: dict[str, Any]) -> bytes:
    """``content`` as a file that people can read."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")  # half a character stays an escape


async def write_atomic(path: Path, content: bytes, mode: int = READABLE) -> None:
    """Replace ``path`` by ``content``, whole or not at all, and durably once this returns.

    Cancelling waits for the end, so that no write outlives its call and overtakes the next one.
    """
    await to_thread_shielded(write_atomic_sync, path, content, mode)


async def to_thread_shielded(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """Do ``work`` in a thread. Cancelling waits for its end."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *given, **named))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


def write_atomic_sync(path: Path, content: bytes, mode: int = READABLE) -> None:
    """What :func:`write_whole` does, in the calling thread."""
    temporary = temporary_path(path)
    try:
        disk.create(temporary, content, mode)
        replace_durably(temporary, path)
    except BaseException:
        unlink_quietly(temporary)
        raise


def replace_durably(temporary: Path, path: Path) -> None:
    """Rename a finished file to its name, durably. It replaces what was there."""
    disk.replace(temporary, path)
    disk.sync_folder(path.parent)


def unlink_quietly(temporary: Path) -> None:
    """Remove a file that is of no more use, if it is there; what cannot be removed now, the next start removes."""
    with contextlib.suppress(OSError):
        disk.unlink(temporary)


async def remove_files(paths: Iterable[Path]) -> list[Path]:
    """Remove the files that exist, durably, and name them."""
    return await to_thread_shielded(remove_files_sync, paths)


def remove_files_sync(paths: Iterable[Path]) -> list[Path]:
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


async def list_names(folder: Path, *extensions: str) -> list[str]:
    """The names of the folder's files with one of the endings, ascending.

    Hidden ones are passed over, and so are those that are not Unicode: nobody could be told of them.
    """
    try:
        names = await aiofiles.os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(
        name for name in names if name.endswith(extensions) and not name.startswith(".") and _is_text(name)
    )


def is_plain_name(name: str) -> bool:
    """Whether ``name`` is that of a file in its folder that is not hidden, and not the way to another."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0") and Path(name).name == name


def exists_case_sensitive(path: Path) -> bool:
    """Whether there is a file of exactly that name: where ``A`` and ``a`` are one file they are not one name."""
    if not os.path.lexists(path):
        return False
    other_case = path.with_name(path.name.swapcase())
    return not os.path.lexists(other_case) or path.name in os.listdir(path.parent)  # noqa: PTH208 - names alone


async def remove_temporaries(folder: Path) -> None:
    """Remove what a killed server left half written."""
    try:
        names = await aiofiles.os.listdir(folder)
    except FileNotFoundError:
        return
    for name in filter(_is_temporary, names):
        with contextlib.suppress(OSError):  # litter is no reason not to start
            await remove_files([folder / name])


def temporary_path(path: Path) -> Path:
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


def regular_file_stat(path: Path) -> os.stat_result | None:
    """Status of a regular file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


Stamp = tuple[int, int, int]


def file_stamp(status: os.stat_result) -> Stamp:
    """What tells one state of a file from another."""
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_together(paths: Iterable[Path], read: Callable[[], T]) -> T:
    """What ``read`` makes of files, read again if another process has put one of them in place meanwhile."""
    watched = list(paths)

    def stamps() -> list[Stamp | None]:
        return [file_stamp(status) if (status := regular_file_stat(path)) else None for path in watched]

    while True:
        before = stamps()
        try:
            result = read()
        except Exception:
            if stamps() == before:
                raise
        else:
            if stamps() == before:
                return result


def open_nonblocking(path: str, flags: int) -> int:
    """For ``opener`` of :func:`open`: of a named pipe, do not wait for who would write to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _parse_finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject_constant(text)
