"""``data/.lock``: one server at a time changes a data folder.

It is the system's own lock on an open file, so it goes with its process however that ends, and no process that
it starts inherits it. What stands in the file is only for people, and for the sentence of those refused.
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

from recserver.core.clock import blocking_sleep
from recserver.core.errors import DataFolderInUse, ServerCannotStart
from recserver.storage.atomic_files import READABLE

LOCK_FILE = ".lock"

LOCK_RETRY_SECONDS = 0.02
"""Seconds between two attempts of a server that found the lock taken."""

MAX_LOCK_ATTEMPTS = 25
"""How often it is tried while whoever has it has not written yet who it is."""

_LOCKS_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What file systems answer that keep no locks."""

logger = logging.getLogger(__name__)

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        os.lseek(descriptor, 2**30, os.SEEK_SET)  # nobody can read a locked byte: one far behind the text
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class DataLock:
    """The right to change one data folder. Its methods may wait for the disk: they are not for the event loop."""

    def __init__(self, folder: Path, holder: int | None = None) -> None:
        """
        Args:
            holder: the process that others are told has it; None is this one.
        """
        self._folder = folder
        self._holder = holder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or find out who has it.

        Raises:
            DataFolderInUse: if another server has it, in this process or any other.
            ServerCannotStart: if the folder is on a disk that cannot be written.
            OSError: if the lock's file cannot be opened.
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
        with suppress(OSError):  # the disk is full: the lock holds all the same, it only does not say for whom
            _write(descriptor, {"pid": self._holder or os.getpid(), "host": socket.gethostname()})

    def release(self) -> None:
        """Let another server have the folder. Nothing happens if the lock was not taken."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


def require_unlocked(folder: Path) -> None:
    """See that no server has the folder. Nothing is made or written for that.

    Raises:
        DataFolderInUse: if one has.
    """
    folder = folder.resolve()
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
    except OSError:  # nobody has ever locked it, or nobody can
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
        except (BlockingIOError, PermissionError):  # how a lock that is taken shows, on POSIX and on Windows
            if holder is not None:
                break
            blocking_sleep(
                LOCK_RETRY_SECONDS
            )  # it may be held only by somebody who looks, or by somebody about to say who it is
            holder = _holder(descriptor)
        except OSError as error:
            if error.errno not in _LOCKS_UNSUPPORTED:
                raise
            logger.warning(
                "the file system of %s keeps no locks (%s): nothing but you keeps a second server from it",
                folder,
                error.strerror,
            )
            return
        else:
            return
    raise DataFolderInUse(folder, holder or "another server")


def _holder(descriptor: int) -> str | None:
    """Who has the lock; None if the file does not say."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        told = json.loads(os.read(descriptor, 4096))
        return f"process {int(told['pid'])} on host {str(told['host'])[:255]!r}"
    except (ValueError, TypeError, KeyError):
        return None


def _write(descriptor: int, content: dict[str, object]) -> None:
    text = json.dumps(content).encode() + b"\n"
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text)
    os.ftruncate(descriptor, len(text))
