"""Reading and writing files whole: no reader ever sees a partly written one. All functions block unless async."""

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

from recserver._internal.core.errors import InvalidInput
from recserver._internal.core.validation.json_depth import levels
from recserver._internal.storage.disk import Disk

MAX_DOCUMENT_BYTES = 2**20
"""Bytes of a JSON or YAML file."""

MAX_DEPTH = 64
"""Levels of nesting in a JSON file."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")

P = ParamSpec("P")
T = TypeVar("T")

PRIVATE = 0o600
READABLE = 0o644

disk = Disk()
"""All changes of the disk go through it."""


def read_document(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The content of a small regular file.

    Raises:
        FileNotFoundError: if it does not exist.
        InvalidInput: if it is not a regular file, or larger than ``max_bytes``.
        OSError: if it cannot be read.
    """
    with open(path, "rb", opener=open_nonblocking) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInput(f"{path.name} is not a regular file: put one in its place, or remove it.")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InvalidInput(f"{path.name} is larger than {max_bytes} bytes: make it smaller.")
    return content


def read_object(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: if it does not exist.
        InvalidInput: if it cannot be read, or does not hold a JSON object.
    """
    try:
        content = json.loads(
            read_document(path, max_bytes), parse_constant=_reject_constant, parse_float=_parse_finite
        )
        if any(depth >= MAX_DEPTH for depth, _ in enumerate(levels(content))):
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path.name} is not valid JSON: {error}. Correct the file.") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{path.name} does not hold a JSON object: correct the file.")
    return content


def json_bytes(content: dict[str, Any]) -> bytes:
    """``content`` as indented JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")  # a lone surrogate stays an escape


async def to_thread_shielded(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``work`` in a thread. Cancelling waits for its end, so that no write overtakes the next one."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def write_atomic(path: Path, content: bytes, mode: int = READABLE) -> None:
    """Replace ``path`` by ``content``, whole or not at all, and durably once this returns."""
    temporary = temporary_path(path)
    try:
        disk.create(temporary, content, mode)
        replace_durably(temporary, path)
    except BaseException:
        unlink_quietly(temporary)
        raise


def replace_durably(temporary: Path, path: Path) -> None:
    """Rename a finished file, durably. It replaces the file at ``path``."""
    disk.replace(temporary, path)
    disk.sync_folder(path.parent)


def unlink_quietly(temporary: Path) -> None:
    """Remove a temporary file if it exists. If that fails, the next start removes it."""
    with contextlib.suppress(OSError):
        disk.unlink(temporary)


def remove_files(paths: Iterable[Path]) -> list[Path]:
    """Remove the files that exist, durably, and return their paths."""
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
    """The sorted names of the folder's files with one of the extensions, except hidden and non-Unicode names."""
    try:
        names = await aiofiles.os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(
        name for name in names if name.endswith(extensions) and not name.startswith(".") and _is_text(name)
    )


def is_plain_name(name: str) -> bool:
    """Whether ``name`` is the name of a visible file, not a path."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0") and Path(name).name == name


def exists_case_sensitive(path: Path) -> bool:
    """Whether there is a file of exactly that name, also where the file system ignores case."""
    if not os.path.lexists(path):
        return False
    other_case = path.with_name(path.name.swapcase())
    return not os.path.lexists(other_case) or path.name in os.listdir(path.parent)  # noqa: PTH208 - names alone


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that a killed server left in a folder, if there is such a folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - the names alone
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in filter(_TEMPORARY.fullmatch, names):
        with contextlib.suppress(OSError):  # a temporary file must not prevent the start
            remove_files([folder / name])


def temporary_path(path: Path) -> Path:
    """A new hidden name in the folder of ``path``, which no listing of models or tasks picks up."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def regular_file_stat(path: Path) -> os.stat_result | None:
    """The status of a regular file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


Stamp = tuple[int, int, int]


def file_stamp(status: os.stat_result) -> Stamp:
    """What differs between two states of a file."""
    return status.st_mtime_ns, status.st_size, status.st_ino


def file_identity(path: Path) -> tuple[int, int] | None:
    """The device and inode of a file or folder; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_together(paths: Iterable[Path], read: Callable[[], T]) -> T:
    """What ``read`` returns; it is called again if another process has replaced one of the files meanwhile."""
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
    """An ``opener`` for :func:`open` that does not wait for the writer of a named pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _parse_finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject_constant(text)
