"""P27: whatever is done to the task files, the loops are in the end those that the files ask for."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recserver import RecServer
from recserver._internal.core.events import TasksReconciled
from recserver._internal.training.task import TaskSpec
from tests.helpers.realtime import AtOnce, prepare, serving

NAMES = [f"t{number}" for number in range(6)]


class Editor:
    """Somebody who edits task files in every way that there is."""

    def __init__(self, folder: Path, lot: random.Random) -> None:
        self._folder, self._lot = folder, lot
        self._elsewhere = folder.parent / "elsewhere"
        self._elsewhere.mkdir()

    def edit(self) -> None:
        ways: list[Callable[[Path, str], None]] = [
            self.write, self.write, self.half, self.bytewise, self.replace, self.editor, self.remove, self.swap,
            self.link, self.litter, self.copy, self.folder_anew,
        ]  # fmt: skip
        interval = self._lot.choice([3600, 1800, 60.5, 0, "soon"])
        task = {"model_id": self._lot.choice(["m0", "m1"]), "interactions_data_chef_id": "c", "interval": interval}
        task["enabled"] = self._lot.random() < 0.8
        self._folder.mkdir(exist_ok=True)
        self._lot.choice(ways)(self._folder / f"{self._lot.choice(NAMES)}.json", json.dumps(task))

    def write(self, path: Path, text: str) -> None:
        self.remove(path, text) if path.is_symlink() else None
        path.write_text(text)

    def half(self, path: Path, text: str) -> None:
        self.write(path, text[: self._lot.randrange(len(text))])

    def bytewise(self, path: Path, text: str) -> None:
        self.write(path, "")
        with path.open("w") as file:
            for character in text:
                file.write(character)
                file.flush()

    def replace(self, path: Path, text: str) -> None:
        other = self._folder / f".{path.name}.swp"
        other.write_text(text)
        other.replace(path)

    def editor(self, path: Path, text: str) -> None:
        """As some editors save: the old one becomes a backup, the new one is written."""
        if path.exists():
            path.rename(path.with_name(f"{path.name}~"))
        path.write_text(text)

    def remove(self, path: Path, _: str) -> None:
        path.unlink(missing_ok=True)

    def swap(self, path: Path, _: str) -> None:
        other = self._folder / f"{self._lot.choice(NAMES)}.json"
        if path.exists() and other.exists() and path != other:
            between = self._folder / "between"
            path.rename(between)
            other.rename(path)
            between.rename(other)

    def link(self, path: Path, text: str) -> None:
        target = self._elsewhere / f"{self._lot.randrange(10**9)}"
        target.write_text(text)
        self.remove(path, text)
        path.symlink_to(target)

    def litter(self, path: Path, text: str) -> None:
        for name in ("4913", f"{path.name}~", f".{path.name}.swp", "rows.csv"):
            (self._folder / name).write_text(text)

    def copy(self, path: Path, _: str) -> None:
        other = self._folder / f"{self._lot.choice(NAMES)}.json"
        if path.exists() and path != other:
            self.write(other, path.read_text())

    def folder_anew(self, path: Path, text: str) -> None:
        shutil.rmtree(self._folder)
        self._folder.mkdir()
        path.write_text(text)


async def as_the_files_say(rec: RecServer) -> bool:
    """Whether every file that can be used has its loop, and no loop is without a file."""
    wanted = await rec._services.runner.read_tasks()
    scheduler = rec._services.scheduler
    good = {name: one for name, one in wanted.items() if isinstance(one, TaskSpec)}
    loops = {name: loop.spec for name in scheduler.task_names if (loop := scheduler.loop(name))}
    return (
        all(loops.get(name) == one for name, one in good.items() if one.enabled)
        and not [name for name in loops if name not in wanted or (name in good and not good[name].enabled)]
        and set(scheduler.file_errors) == set(wanted) - set(good)
    )


async def converge(data_dir: Path, edits: int, burst: int, within: float) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    lot = random.Random(seed)
    prepare(data_dir, [3600, 3600])
    editor = Editor(data_dir / "tasks", lot)
    async with serving(data_dir, AtOnce(), rescan_seconds=1) as (rec, _):
        with rec.events.listen() as events:
            for number in range(0, edits, burst):
                for _ in range(burst):
                    await asyncio.to_thread(editor.edit)
                    await asyncio.sleep(0)
                async with asyncio.timeout(within):
                    while not await as_the_files_say(rec):
                        await events.next(TasksReconciled)
                assert rec.is_open, number


@pytest.mark.slow
@pytest.mark.parametrize("polling", [False, True], ids=["by events", "by polling"])
async def test_a_hundred_edits_converge(data_dir: Path, monkeypatch: pytest.MonkeyPatch, polling: bool) -> None:
    if polling:
        monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    await converge(data_dir, 100, 10, 12)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("polling", [False, True], ids=["by events", "by polling"])
async def test_a_thousand_edits_converge(data_dir: Path, monkeypatch: pytest.MonkeyPatch, polling: bool) -> None:
    if polling:
        monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    await converge(data_dir, 1000, 4, 12)
