"""``data/.lock``: one server at a time writes to a data folder.

It is an operating system lock on an open file: it is released when its process ends in any way, and child
processes do not inherit it. The content of the file is for users and error messages only.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from recserver._internal.core.clock import blocking_sleep
from recserver._internal.core.errors import DataFolderInUse, ServerCannotStart
from recserver._internal.storage.atomic_files import READABLE

LOCK_FILE = ".lock"

LOCK_RETRY_SECONDS = 0.02
"""Seconds between two attempts to take the lock."""

MAX_LOCK_ATTEMPTS = 25
"""Attempts while the holder has not written its process id yet."""

_LOCKS_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Errors of file systems that do not support locks."""

logger = logging.getLogger(__name__)

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        os.lseek(descriptor, 2**30, os.SEEK_SET)  # a locked byte cannot be read: take one far behind the text
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class DataLock:
    """The exclusive right to write to one data folder. Blocking."""

    def __init__(self, folder: Path, holder: int | None = None) -> None:
        """
        Args:
            holder: the process id to report to others; None for this process.
        """
        self._folder = folder
        self._holder = holder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            DataFolderInUse: if another server has it, in this or any other process.
            ServerCannotStart: if the folder is on a read-only file system.
            OSError: if the lock file cannot be opened.
        """
        try:
            descriptor = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, READABLE)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            raise ServerCannotStart(
                f"The data folder {self._folder} is on a read-only file system: serve it with --read-only, "
                "or choose another with --data."
            ) from None
        try:
            _acquire(descriptor, self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        with suppress(OSError):  # the disk is full: the lock holds without naming its holder
            _write(descriptor, {"pid": self._holder or os.getpid(), "host": socket.gethostname()})

    def release(self) -> None:
        """Release the lock, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


def require_unlocked(folder: Path) -> None:
    """Check that no server uses the folder, without writing anything.

    Raises:
        DataFolderInUse: if one does.
    """
    folder = folder.resolve()
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
    except OSError:  # it was never locked, or cannot be
        return
    try:
        with suppress(OSError):
            _acquire(descriptor, folder)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path) -> None:
    holder = None
    for _ in range(MAX_LOCK_ATTEMPTS):
        try:
            _try_lock(descriptor)
        except (BlockingIOError, PermissionError):  # the lock is taken: on POSIX and on Windows
            if holder is not None:
                break
            blocking_sleep(LOCK_RETRY_SECONDS)  # the holder may only be checking, or not have written its id yet
            holder = _holder(descriptor)
        except OSError as error:
            if error.errno not in _LOCKS_UNSUPPORTED:
                raise
            logger.warning(
                "the file system of %s does not support locks (%s): do not start a second server on it",
                folder,
                error.strerror,
            )
            return
        else:
            return
    raise DataFolderInUse(folder, holder or "another server")


def _holder(descriptor: int) -> str | None:
    """The holder of the lock; None if the file does not name it."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        holder = json.loads(os.read(descriptor, 4096))
        return f"process {int(holder['pid'])} on host {str(holder['host'])[:255]!r}"
    except (ValueError, TypeError, KeyError):
        return None


def _write(descriptor: int, content: dict[str, object]) -> None:
    text = json.dumps(content).encode() + b"\n"
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text)
    os.ftruncate(descriptor, len(text))
