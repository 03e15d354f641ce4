"""Private copies of large model files, mapped into memory and shared by all processes of a machine.

The model file itself is never mapped: whoever writes over it in place would change answers, and whoever cuts it
short would end the server by SIGBUS; root does so whatever the file's mode is. A snapshot lies where nobody
restores backups or synchronises folders: in a part of the temporary directory that only its owner can enter.

It gets its name only after everything about it was checked, so its name is the proof. The proof ends with the
boot, since a snapshot is not fsynced. While a process maps one it holds a shared lock on it; those that nobody
maps are removed when another is made. Where there is no such folder, no space or no Linux, files are read instead.
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

if sys.platform != "win32":
    import fcntl

SMALLEST = 2**20
"""Bytes of a model file from which on sharing is worth a copy."""

MOST_MAPPED = 256
"""Snapshots that one process maps, as each keeps a file descriptor; further files are read."""

_DIGEST = 64
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_mapped: WeakSet[mmap.mmap] = WeakSet()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The mapped ``content`` of a model file that passed every check, and its ``sha256`` in hex."""

    content: NDArray[np.uint8]
    sha256: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A copy that nobody knows of yet: the mapped ``content`` of a model file, still to be checked."""

    content: NDArray[np.uint8]
    _descriptor: int
    _path: Path
    _source: int
    _name: str

    def keep(self, sha256: str) -> None:
        """Give it its name, now that everything about it was checked, and remove snapshots that nobody maps.

        One whose model file changed while it was copied keeps no name; this process maps it nevertheless.
        """
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, sha256.encode(), len(self.content))
            if _name(os.fstat(self._source)) == self._name:
                self._path.rename(self._path.with_name(self._name))
            _sweep(self._path.parent)


def find(path: Path) -> Snapshot | None:
    """The snapshot of the model file as it is now, if somebody has made it since the machine started."""
    try:
        source = path.stat()
        if not _is_worth_it(source) or (folder := _folder()) is None:
            return None
        descriptor = os.open(folder / _name(source), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        content = _map(descriptor, source.st_size)
        digest = os.pread(descriptor, _DIGEST, source.st_size)
        content[:: mmap.PAGESIZE].max()  # no request should have to wait for the disk
        return Snapshot(content, digest.decode())
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)  # the map has one of its own, and the lock with it


@contextmanager
def draft(path: Path, largest: int) -> Iterator[Draft | None]:
    """A copy of the model file to check and then to keep; None if it has to be read instead."""
    with contextlib.ExitStack() as stack:
        yield _draft(path, largest, stack)


def _draft(path: Path, largest: int, stack: contextlib.ExitStack) -> Draft | None:
    try:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO must not hold us up
        stack.callback(os.close, source)
        status = os.fstat(source)
        if not _is_worth_it(status) or status.st_size > largest or (folder := _folder()) is None:
            return None
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".")
        stack.callback(os.close, descriptor)
        stack.callback(Path(name).unlink, missing_ok=True)  # unless it is kept under another name
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # so that nobody takes it for litter
        copied = 0
        while copied < status.st_size and (
            count := os.sendfile(descriptor, source, copied, status.st_size - copied)
        ):
            copied += count
        if copied < status.st_size:
            return None
        return Draft(_map(descriptor, status.st_size), descriptor, Path(name), source, _name(status))
    except (OSError, ValueError):  # no space, no permission: reading will do, or say what is wrong
        return None


def _is_worth_it(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size >= SMALLEST and len(_mapped) < MOST_MAPPED


def _name(status: os.stat_result) -> str:
    """Which file it is a copy of, and of which state."""
    return "-".join(f"{one:x}" for one in (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def _map(descriptor: int, size: int) -> NDArray[np.uint8]:
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    mapping = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    _mapped.add(mapping)
    return np.frombuffer(mapping, np.uint8)


def _folder() -> Path | None:
    """The folder of this user's snapshots since the machine started; None if it cannot be trusted."""
    if sys.platform != "linux":
        return None
    path = Path(tempfile.gettempdir()) / f"recserver-{os.geteuid()}-{_BOOT_ID.read_text().strip()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()  # somebody else may have been there first
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return path if private and stat.S_ISDIR(status.st_mode) else None


def _sweep(folder: Path) -> None:
    """Remove the snapshots that no process maps."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)
