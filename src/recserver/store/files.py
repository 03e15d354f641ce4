"""Files read and written so that nobody ever sees half of one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import aiofiles
import aiofiles.os

from recserver.errors import InvalidInput
from recserver.specs.nesting import levels

LARGEST_DOCUMENT = 2**20
"""Bytes of a JSON or YAML file."""

DEEPEST = 64
"""Levels that a JSON file may be nested."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")

PRIVATE = 0o600
READABLE = 0o644


async def read_document(path: Path) -> bytes:
    """The content of a small regular file.

    Raises:
        FileNotFoundError: if there is none.
        InvalidInput: if it is no regular file, or larger than 1 MiB.
        OSError: if it cannot be read.
    """
    async with aiofiles.open(path, "rb", opener=_without_waiting) as file:
        status = await asyncio.to_thread(os.fstat, file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(f"{path.name} is not a regular file: put one in its place, or remove it.")
        content: bytes = await file.read(LARGEST_DOCUMENT + 1)
    if len(content) > LARGEST_DOCUMENT:
        raise InvalidInput(f"{path.name} is larger than {LARGEST_DOCUMENT} bytes: make it smaller.")
    return content


async def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: if there is none.
        InvalidInput: if it cannot be read as one, with the reason.
    """
    try:
        content = json.loads(await read_document(path), parse_constant=_no_number, parse_float=_finite)
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
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    await write_whole(path, text.encode(errors="backslashreplace"), mode)  # half a character stays an escape


async def write_whole(path: Path, content: bytes, mode: int = READABLE) -> None:
    """Replace ``path`` by ``content``, whole or not at all, and durably once this returns.

    Cancelling waits for the end, so that no write outlives its call and overtakes the next one.
    """
    writing = asyncio.ensure_future(_write_whole(path, content, mode))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


async def _write_whole(path: Path, content: bytes, mode: int) -> None:
    temporary = temporary_beside(path)
    try:
        async with aiofiles.open(temporary, "wb", opener=partial(os.open, mode=mode)) as file:
            await file.write(content)
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await put_in_place(temporary, path)
    except BaseException:
        await remove([temporary])
        raise


async def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished file to its name, durably. It replaces what was there."""
    await aiofiles.os.replace(temporary, path)
    await asyncio.to_thread(_sync_folder, path.parent)


async def remove(paths: Iterable[Path]) -> list[Path]:
    """Remove the files that exist, durably, and name them."""
    removed = []
    for path in paths:
        try:
            await aiofiles.os.unlink(path)
        except FileNotFoundError:
            continue
        removed.append(path)
    for folder in {path.parent for path in removed}:
        await asyncio.to_thread(_sync_folder, folder)
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


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no fsync for folders
            raise
    finally:
        os.close(descriptor)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe must not hold us up


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)
