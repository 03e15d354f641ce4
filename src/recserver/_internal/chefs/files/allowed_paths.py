"""The files that data chefs may read: regular files in the data folder or a configured root."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed, quoted

RESERVED_FOLDERS = frozenset({"models", "tasks", "config"})
"""Folders in the data folder that data chefs may not read, in any case. Neither may they read hidden files."""

MAX_NAME_BYTES, MAX_PATH_CHARS = 255, 4000
"""Limits of operating systems: bytes of a file name, characters of a path."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def allowed_path(text: str, policy: SourcePolicy) -> Path:
    """The absolute path of ``text``, with symbolic links resolved. It need not exist.

    Raises:
        ValueError: if it is malformed, or data chefs may not read it.
    """
    if not text.strip() or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("must be the path of a file, without control characters")
    if text.startswith(("~", "//")) or "\\" in text or _SCHEME.match(text):
        raise ValueError(
            f"{quoted(text)} is not a plain path: give one with forward slashes, relative to the data folder, "
            "without ~, drive or URL"
        )
    if (
        any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in text.split("/"))
        or len(text) > MAX_PATH_CHARS
    ):
        raise ValueError("is longer than paths may be: shorten it")
    data_dir = policy.data_dir.resolve()
    try:
        path = (data_dir / text).resolve()
        is_resolved = not any(one.is_symlink() for one in (path, *path.parents))  # Python 3.13 raises no error
    except (OSError, RuntimeError):
        is_resolved = False
    if not is_resolved:
        raise ValueError(f"{quoted(text)} cannot be resolved: its symbolic links form a loop")
    if not any(path.is_relative_to(root.resolve()) for root in (data_dir, *policy.csv_roots)):
        raise ValueError(
            f"{quoted(text)} is outside the data folder: move the file there, or add its folder to "
            "RECSERVER_CSV_ROOTS"
        )
    inside = path.relative_to(data_dir).parts if path.is_relative_to(data_dir) else ()
    if inside and (inside[0].casefold() in RESERVED_FOLDERS or inside[0].startswith(".")):
        raise ValueError(f"{quoted(text)} is one of recserver's own files: data chefs do not read those")
    return path


def missing_file_message(path: Path, text: str) -> str | None:
    """The message if ``path`` is not a regular file, or None.

    Args:
        text: the path as written in the entry.
    """
    if path.is_file():
        return None
    if path.exists():
        return f"{quoted(text)} is not a regular file: give the path of a file."
    return f"There is no file {quoted(text)} ({path}): put it there before the training, or correct the path."


def open_regular(path: Path, text: str) -> BinaryIO:
    """The regular file at ``path``, opened for reading; opening a pipe or device fails without blocking.

    Raises:
        SourceFailed: if it is not a regular file, or cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise SourceFailed(
            missing_file_message(path, text) or f"The file {quoted(text)} cannot be opened: {error.strerror}."
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceFailed(f"{quoted(text)} is not a regular file: give the path of a file.")
    return os.fdopen(descriptor, "rb")
