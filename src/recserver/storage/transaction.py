"""Files that change together: after a crash or an error at any moment all of them are old, or all are new.

New content is staged in hidden files first. What commits the change is one small file, the record, which names
what is to be put in place and what is to be removed; it is written whole or not at all. Then the renames
follow, and the record goes. Whoever finds a record does what it says, which may be done any number of times.

A record may lie about for a while, if the disk fails. What somebody puts in place meanwhile is his, and stays: so
a record also says which files exactly it is that are to go.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recserver.core.errors import InvalidInput
from recserver.storage import atomic_files as files

RECORD_SUFFIX = ".commit"
BROKEN_SUFFIX = ".broken"

logger = logging.getLogger(__name__)


class Transaction:
    """A change of several files of one folder and those in it. Slow: not for the loop.

    Leaving the ``with`` block without :meth:`commit` leaves everything as it was.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """
        Args:
            folder: in which, or below which, all the files lie.
            name: of what is changed; there is one change of it at a time.
        """
        self._folder = folder
        self._record = record_path(folder, name)
        self._replacements: list[tuple[Path, Path]] = []
        self._removals: list[Path] = []
        self._committed = False

    def __enter__(self) -> Self:
        complete(self._record)  # what an earlier change could not do at once
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
        """Stage the content of ``source``, which stays, for ``path``, without copying it where that can be."""
        files.disk.link(source, self._stage(path))

    def move_into_place(self, temporary: Path, path: Path) -> None:
        """Put ``temporary``, a finished file in the folder of ``path``, in the place of ``path``."""
        self._replacements.append((temporary, path))

    def remove(self, path: Path) -> None:
        """Remove ``path``, if it is there."""
        self._removals.append(path)

    def commit(self) -> None:
        """Do it all, or, if this raises OSError, nothing of it.

        Once the record is written the change is made. What hinders the renames then is logged, and they are
        made up for by the next change, or at the next start.
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
            if os.path.lexists(self._record):  # not for good, perhaps: its files must not go before it has
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
    """Where the record of a change of ``name`` lies while it is made."""
    return folder / f".{name}{RECORD_SUFFIX}"


def pending_files(record: Path) -> dict[Path, Path]:
    """Where the new content of files lies that a change has not put in place yet, by their path."""
    if not os.path.lexists(record):
        return {}
    try:
        puts, _, _ = _read(record)
    except (FileNotFoundError, InvalidInput):  # who changes the model next, or starts the next server, says so
        return {}
    return {path: temporary for temporary, path in puts if os.path.lexists(temporary)}


def complete(record: Path, *, just_committed: bool = False) -> None:
    """Do what is left of a change that was committed, if there is a record of one.

    Args:
        at_once: whether nobody can have put other files in place since.

    Raises:
        OSError: if that cannot be done now; the record stays.
    """
    try:
        puts, removes, known = _read(record)
        if not just_committed and (others := _replaced_since(record, removes, known)):
            logger.warning(
                "%s is not finished: %s was put in place since, so what it was to remove stays",
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
    """Do what is left of all changes that a killed server had committed; what is no record is put aside.

    Returns:
        Whether nothing is left.
    """
    all_done = True
    for record in sorted(folder.glob(f".*{RECORD_SUFFIX}")):
        try:
            complete(record)
            logger.info("%s: a change that was under way when the server ended is complete", record.name)
        except InvalidInput as error:
            logger.warning(
                "a change cannot be completed: %s It is kept as %s%s", error, record.name, BROKEN_SUFFIX
            )
            with contextlib.suppress(OSError):
                record.replace(record.with_name(record.name + BROKEN_SUFFIX))
        except OSError as error:
            all_done = False
            logger.warning("%s could not be completed: %s", record.name, error)
    return all_done


def _inode_and_ctime(path: Path) -> list[int] | None:
    """What tells a file from any other of its name; None if there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return [status.st_ino, status.st_ctime_ns]


def _replaced_since(record: Path, removes: list[Path], known: Mapping[str, Any]) -> list[Path]:
    """Those of the files to remove that are others than when the record was written.

    A file is another if it is newer than the record, which nobody can pretend, and not the one that is known. The
    clock may have been set back, so being newer alone tells nothing; nor does being another, in a copied folder.
    """
    committed, seen = record.lstat().st_ctime_ns, [one[0] for one in known.values()]

    def is_other(path: Path) -> bool:
        now, before = _inode_and_ctime(path), known.get(path.relative_to(record.parent).as_posix())
        if now is None or now == before or now[1] <= committed:
            return False
        # Of two names of one file, removing the first makes the other one new as well.
        return before is None or now[0] != before[0] or seen.count(now[0]) < 2

    return [path for path in removes if is_other(path)]


def _read(record: Path) -> tuple[list[tuple[Path, Path]], list[Path], dict[str, Any]]:
    """What a record says: what to put in place, what to remove, and what is known of that.

    Files outside its folder are nothing that we wrote.

    Raises:
        FileNotFoundError: if there is none.
        InvalidInput: if it is no record.
    """
    try:
        content = files.read_object(record)
    except InvalidInput:
        raise InvalidInput(f"{record.name} is no record of a change: remove it by hand.") from None
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
        raise InvalidInput(f"{record.name} is no record of a change: remove it by hand.") from None
