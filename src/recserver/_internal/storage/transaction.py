"""Atomic changes of several files: after a crash or an error at any moment all of them are old, or all are new.

New content is staged in hidden files first. The commit writes one small file, the record, atomically: it names the
files to put in place and to remove. Then the files are renamed and removed, and at last the record. Completing a
record is idempotent: it can be repeated after a crash.

If the disk fails, a record may remain for a while. Files that users put in place meanwhile must not be removed: so
the record also identifies the files to remove by inode and ctime.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recserver._internal.core.errors import InvalidInput
from recserver._internal.storage import atomic_files as files

RECORD_SUFFIX = ".commit"
BROKEN_SUFFIX = ".broken"

logger = logging.getLogger(__name__)


class Transaction:
    """A change of several files in one folder and its subfolders. Blocking.

    Leaving the ``with`` block without :meth:`commit` changes nothing.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """
        Args:
            folder: the folder that contains all the files, at any depth.
            name: of the changed object; it has one transaction at a time.
        """
        self._folder = folder
        self._record = record_path(folder, name)
        self._replacements: list[tuple[Path, Path]] = []
        self._removals: list[Path] = []
        self._committed = False

    def __enter__(self) -> Self:
        complete(self._record)  # an earlier transaction that is not complete
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._committed:
            for temporary, _ in self._replacements:
                files.unlink_quietly(temporary)

    def write(self, path: Path, content: bytes, mode: int = files.READABLE) -> None:
        """Stage ``content`` for ``path``."""
        files.disk.create(self._stage(path), content, mode)

    def link(self, source: Path, path: Path) -> None:
        """Stage the content of ``source``, which stays, for ``path``; without a copy if the file system allows."""
        files.disk.link(source, self._stage(path))

    def move_into_place(self, temporary: Path, path: Path) -> None:
        """Stage ``temporary``, a finished file in the folder of ``path``, for ``path``, without a copy."""
        self._replacements.append((temporary, path))

    def remove(self, path: Path) -> None:
        """Stage the removal of ``path``, if it exists."""
        self._removals.append(path)

    def commit(self) -> None:
        """Apply all staged changes, or none if this raises OSError.

        Once the record is written, the transaction is committed. Errors in the renames that follow are logged: the
        next transaction or the next start completes them.
        """
        for folder in {path.parent for _, path in self._replacements}:
            files.disk.sync_folder(folder)
        content: dict[str, Any] = {
            "put": [
                [self._relative_name(temporary), self._relative_name(path)]
                for temporary, path in self._replacements
            ],
            "remove": [self._relative_name(path) for path in self._removals],
            "as": {
                self._relative_name(path): known
                for path in self._removals
                if (known := _inode_and_ctime(path)) is not None
            },
        }
        self._write_record(content)
        try:
            complete(self._record, just_committed=True)
        except OSError as error:
            logger.warning("%s is not finished yet (%s): the next start does it", self._record.name, error)

    def _write_record(self, content: dict[str, Any]) -> None:
        self._committed = True
        try:
            files.write_atomic(self._record, files.json_bytes(content))
        except OSError:
            if os.path.lexists(self._record):  # it may not be durable: remove it before its staged files
                files.disk.unlink(self._record)
                files.disk.sync_folder(self._folder)
            self._committed = False
            raise

    def _stage(self, path: Path) -> Path:
        temporary = files.temporary_path(path)
        self._replacements.append((temporary, path))
        return temporary

    def _relative_name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def record_path(folder: Path, name: str) -> Path:
    """The path of the record of a transaction of ``name``."""
    return folder / f".{name}{RECORD_SUFFIX}"


def pending_files(record: Path) -> dict[Path, Path]:
    """The staged files of a committed transaction that are not in place yet, by their final path."""
    if not os.path.lexists(record):
        return {}
    try:
        puts, _, _ = _read(record)
    except (FileNotFoundError, InvalidInput):  # reported by the next transaction or the next start
        return {}
    return {path: temporary for temporary, path in puts if os.path.lexists(temporary)}


def complete(record: Path, *, just_committed: bool = False) -> None:
    """Complete a committed transaction, if there is a record of one.

    Args:
        just_committed: whether no other files can have been put in place since the commit.

    Raises:
        OSError: if it cannot be completed; the record stays.
    """
    try:
        puts, removes, known = _read(record)
        if not just_committed and (others := _replaced_since(record, removes, known)):
            logger.warning(
                "%s is not finished: %s was replaced since, so the files that it was to remove are not removed",
                record.name, ", ".join(path.name for path in others),
            )  # fmt: skip
            removes = []
    except FileNotFoundError:
        return
    for temporary, path in puts:
        if os.path.lexists(temporary):
            files.disk.replace(temporary, path)
    for path in removes:
        if os.path.lexists(path):
            files.disk.unlink(path)
    for folder in {path.parent for path in (*(path for _, path in puts), *removes)}:
        if os.path.lexists(folder):
            files.disk.sync_folder(folder)
    files.disk.unlink(record)
    files.disk.sync_folder(record.parent)


def complete_all(folder: Path) -> bool:
    """Complete all transactions that a killed server had committed; invalid records are renamed.

    Returns:
        Whether all are complete.
    """
    all_done = True
    for record in sorted(folder.glob(f".*{RECORD_SUFFIX}")):
        try:
            complete(record)
            logger.info("%s: a change that was under way when the server ended is complete", record.name)
        except InvalidInput as error:
            logger.warning(
                "a transaction cannot be completed: %s It was renamed to %s%s", error, record.name, BROKEN_SUFFIX
            )
            with contextlib.suppress(OSError):
                record.replace(record.with_name(record.name + BROKEN_SUFFIX))
        except OSError as error:
            all_done = False
            logger.warning("%s could not be completed: %s", record.name, error)
    return all_done


def _inode_and_ctime(path: Path) -> list[int] | None:
    """What identifies a file among others of its name; None if there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return [status.st_ino, status.st_ctime_ns]


def _replaced_since(record: Path, removes: list[Path], known: Mapping[str, Any]) -> list[Path]:
    """The files to remove that were replaced since the record was written.

    A file was replaced if its ctime, which cannot be set, is later than that of the record, and it is not the
    known file. Neither is enough alone: the clock may have been set back, and a copied folder has other inodes.
    """
    committed, seen = record.lstat().st_ctime_ns, [one[0] for one in known.values()]

    def is_other(path: Path) -> bool:
        now, before = _inode_and_ctime(path), known.get(path.relative_to(record.parent).as_posix())
        if now is None or now == before or now[1] <= committed:
            return False
        # Removing one of two names of a file changes the ctime of the other.
        return before is None or now[0] != before[0] or seen.count(now[0]) < 2

    return [path for path in removes if is_other(path)]


def _read(record: Path) -> tuple[list[tuple[Path, Path]], list[Path], dict[str, Any]]:
    """The content of a record: the files to put in place, the files to remove, and their inodes and ctimes.

    Raises:
        FileNotFoundError: if it does not exist.
        InvalidInput: if it is not a valid record, or names files outside its folder.
    """
    try:
        content = files.read_object(record)
    except InvalidInput:
        raise InvalidInput(f"{record.name} is not a valid transaction record: remove it by hand.") from None
    folder = record.parent

    def inside(name: Any) -> Path:
        path = Path(str(name))
        if path.is_absolute() or ".." in path.parts:
            raise InvalidInput(f"{record.name} names a file outside its folder: remove it by hand.")
        return folder / path

    try:
        puts = [(inside(temporary), inside(path)) for temporary, path in content["put"]]
        known = {str(name): [int(number), int(moment)] for name, (number, moment) in content.get("as", {}).items()}
        return puts, [inside(name) for name in content["remove"]], known
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InvalidInput(f"{record.name} is not a valid transaction record: remove it by hand.") from None
