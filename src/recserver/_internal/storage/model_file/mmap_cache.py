"""Private copies of large model files, mapped into memory and shared by all processes of a machine.

The model file itself is never mapped: overwriting it in place would change recommendations, and truncating it
would kill the server by SIGBUS. The copies are in a private folder of the temporary directory, which backup and
synchronisation tools do not touch.

A copy gets its final name only after it was checked, so its name proves its validity. That holds until the next
boot, since copies are not fsynced. A process holds a shared lock on each copy that it maps; unused copies are
removed when another is made. Without such a folder, enough space or Linux, files are read instead.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from recserver._internal.core.clock import blocking_sleep

if sys.platform != "win32":
    import fcntl

MIN_BYTES = 2**20
"""Bytes of the smallest model file that is copied."""

MAX_MAPPED = 256
"""Copies that one process maps: each needs a file descriptor. Further files are read."""

LOCK_RETRY_SECONDS, MAX_LOCK_ATTEMPTS = 0.02, 1500
"""Seconds between two attempts to lock a model file, and how many there are before it is read instead."""

_DIGEST_LENGTH = 64
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_mapped: WeakSet[mmap.mmap] = WeakSet()


@dataclass(frozen=True, slots=True)
class MappedCopy:
    """A private copy of a model file.

    Attributes:
        content: mapped into memory.
        sha256: in hex if the content was checked; None if it is still to be checked.
    """

    content: NDArray[np.uint8]
    sha256: str | None
    _path: Path
    _descriptor: int
    _source: int

    def publish(self, sha256: str) -> None:
        """Give a copy that was checked its final name, and remove unused copies.

        A copy whose model file changed meanwhile gets no name; only this process maps it.
        """
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, sha256.encode(), len(self.content))
            now = os.fstat(self._source)
            if self._path.name.startswith(f".{_copy_name(now)}."):
                self._path.rename(self._path.with_name(_copy_name(now)))
            _remove_unused(self._path.parent)


@contextmanager
def mapped_copy(path: Path, max_bytes: int) -> Iterator[MappedCopy | None]:
    """The copy of the model file at ``path``, created if there is none; None if the file has to be read instead.

    One of several processes creates the copy, with a lock on the model file; the others wait, 30 seconds at most.
    """
    with contextlib.ExitStack() as stack:
        try:
            linux = sys.platform == "linux"
            found = (_open_published(path, path.stat(), stack) or _copy(path, max_bytes, stack)) if linux else None
        except (OSError, ValueError):  # no space or permission: reading may work, or raises the error
            found = None
        yield found


def _open_published(path: Path, status: os.stat_result, stack: contextlib.ExitStack) -> MappedCopy | None:
    if not _is_mappable(status) or (folder := _copy_folder()) is None:
        return None
    try:
        descriptor = os.open(folder / _copy_name(status), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    stack.callback(os.close, descriptor)  # the mapping holds another descriptor, and with it the lock
    digest = os.pread(descriptor, _DIGEST_LENGTH, status.st_size).decode()
    if len(digest) < _DIGEST_LENGTH:
        return None
    content = _map(descriptor, status.st_size)
    content[:: mmap.PAGESIZE].max()  # read all pages now, so that no request waits for the disk
    return MappedCopy(content, digest, path, descriptor, descriptor)


def _copy(path: Path, max_bytes: int, stack: contextlib.ExitStack) -> MappedCopy | None:
    source = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # do not wait for the writer of a FIFO
    stack.callback(os.close, source)
    size = os.fstat(source).st_size
    if not _is_mappable(os.fstat(source)) or size > max_bytes or (folder := _copy_folder()) is None:
        return None
    if not _lock_exclusively(source):
        return None
    status = os.fstat(source)
    if (found := _open_published(path, status, stack)) is not None:
        return found
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{_copy_name(status)}.")
    stack.callback(os.close, descriptor)
    stack.callback(Path(name).unlink, missing_ok=True)  # unless it was published
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # so that it is not removed as unused
    copied = 0
    while copied < size and (count := os.sendfile(descriptor, source, copied, size - copied)):
        copied += count
    return MappedCopy(_map(descriptor, size), None, Path(name), descriptor, source) if copied == size else None


def _lock_exclusively(source: int) -> bool:
    """Lock a model file, waiting for another process that copies it; False if that takes too long."""
    for _ in range(MAX_LOCK_ATTEMPTS):
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            blocking_sleep(LOCK_RETRY_SECONDS)
        else:
            return True
    return False


def _is_mappable(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size >= MIN_BYTES and len(_mapped) < MAX_MAPPED


def _copy_name(status: os.stat_result) -> str:
    """The name of a copy: it identifies the file and its state."""
    return "-".join(f"{one:x}" for one in (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def _map(descriptor: int, size: int) -> NDArray[np.uint8]:
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    mapping = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    _mapped.add(mapping)
    return np.frombuffer(mapping, np.uint8)


def _copy_folder() -> Path | None:
    """The folder of this user's copies since boot; None if it is not private."""
    path = Path(tempfile.gettempdir()) / f"recserver-{os.geteuid()}-{_BOOT_ID.read_text().strip()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()  # another user may have created it
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return path if private and stat.S_ISDIR(status.st_mode) else None


def _remove_unused(folder: Path) -> None:
    """Remove the copies that no process maps."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)
