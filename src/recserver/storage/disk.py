"""The operations that change what is on the disk, one by one: tests let each of them fail, or the power go."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from functools import partial
from pathlib import Path


class Disk:
    """What :mod:`recserver.storage.atomic_files` does to a disk. Slow: not for the loop."""

    def create(self, path: Path, content: bytes, mode: int) -> None:
        """Write a file, durably; on an error there is none."""
        try:
            with open(path, "wb", opener=partial(os.open, mode=mode)) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                self.unlink(path)
            raise

    def link(self, source: Path, path: Path) -> None:
        """Give a file a second name; where the file system has no such thing, copy it durably."""
        try:
            os.link(source, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            self._copy(source, path)

    def _copy(self, source: Path, path: Path) -> None:
        try:
            with source.open("rb") as original, path.open("xb") as copy:
                shutil.copyfileobj(original, copy, 2**20)
                copy.flush()
                os.fsync(copy.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                self.unlink(path)
            raise

    def replace(self, source: Path, path: Path) -> None:
        """Give a file another name, in the place of what bore it."""
        source.replace(path)
        with contextlib.suppress(FileNotFoundError):  # of two names of one file, renaming removes none
            source.unlink()

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it, durably, if they are not there."""
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for one in missing:
            self.sync_folder(one.parent)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def sync_folder(self, folder: Path) -> None:
        """Make sure that what was named, renamed and removed in a folder stays so."""
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
