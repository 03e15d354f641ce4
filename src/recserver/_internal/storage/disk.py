"""The single operations that change the disk, so that tests can inject errors and power cuts."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from functools import partial
from pathlib import Path


class Disk:
    """All changes of the disk by :mod:`recserver._internal.storage.atomic_files`. Blocking."""

    def create(self, path: Path, content: bytes, mode: int) -> None:
        """Write a file durably; on an error it is removed."""
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
        """Hard-link a file; copy it durably if the file system has no hard links."""
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
        """Rename a file; an existing one of that name is replaced."""
        source.replace(path)
        with contextlib.suppress(FileNotFoundError):  # renaming between two hard links of one file removes neither
            source.unlink()

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Create a folder and its parents durably, if they do not exist."""
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for one in missing:
            self.sync_folder(one.parent)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def sync_folder(self, folder: Path) -> None:
        """Make the created, renamed and removed names in a folder durable."""
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
