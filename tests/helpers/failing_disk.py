"""A disk whose operations are counted, one of which fails, or at which the power goes."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from recserver._internal.storage.disk import Disk


class PowerCut(Exception):
    """Nothing is done to the disk any more."""


@dataclass
class FailingDisk(Disk):
    """Counts operations. Before the one numbered ``at``, and with ``for_ever`` all later ones, ``fail`` is called.

    What was not synced is known: :meth:`after_power_cut` makes a folder as it might be found then.
    """

    root: Path
    fail: Callable[[], None] = lambda: None
    at: int | None = None
    for_ever: bool = False
    steps: int = 0
    _synced: dict[Path, dict[str, bytes]] = field(default_factory=dict)
    """Per folder, what is in it for good."""
    _since: list[tuple[str, Path, Path | bytes]] = field(default_factory=list)
    """What was done to names since, in order."""

    def __post_init__(self) -> None:
        for folder in (self.root, *(path for path in self.root.rglob("*") if path.is_dir())):
            self._synced[folder] = _files_in(folder)

    def _step(self) -> None:
        self.steps += 1
        if self.at is not None and (self.steps == self.at or (self.for_ever and self.steps > self.at)):
            self.fail()

    def create(self, path: Path, content: bytes, mode: int) -> None:
        self._step()
        path.write_bytes(b"")
        self._since.append(("write", path, b""))
        try:
            self._step()
            path.write_bytes(content)
            self._step()
            self._since[-1] = ("write", path, content)
        except OSError:
            self.unlink(path)
            raise

    def link(self, source: Path, path: Path) -> None:
        self._step()
        os.link(source, path)
        self._since.append(("write", path, source.read_bytes()))

    def replace(self, source: Path, path: Path) -> None:
        self._step()
        super().replace(source, path)
        self._since.append(("replace", path, source))

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)
        self._since.append(("unlink", path, b""))

    def make_folder(self, path: Path) -> None:
        self._step()
        super().make_folder(path)

    def remove_folder(self, path: Path) -> None:
        self._step()
        super().remove_folder(path)

    def sync_folder(self, folder: Path) -> None:
        self._step()
        self._synced[folder] = _files_in(folder)
        self._since = [one for one in self._since if one[1].parent != folder]

    def after_power_cut(self, folder: Path, lot: random.Random) -> None:
        """Make ``folder`` what is left of the root: what was synced, and some of what was not, by lot."""
        files = {one / name: content for one, there in self._synced.items() for name, content in there.items()}
        for kind, path, what in self._since:
            if lot.random() < 0.5:
                continue
            if kind == "write" and isinstance(what, bytes):
                files[path] = what
            elif kind == "replace" and isinstance(what, Path) and what in files:
                files[path] = files.pop(what)
            elif kind == "unlink":
                files.pop(path, None)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # A record comes last, as it did on the disk: what is newer than a record is not removed by it.
        for path, content in sorted(files.items(), key=lambda one: one[0].suffix == ".commit"):
            copy = folder / path.relative_to(self.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)


def _files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
