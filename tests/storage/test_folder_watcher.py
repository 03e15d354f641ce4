"""Changed files take effect by themselves: reported, polled for, or found by looking again in any case."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.events import RunSkipped, TasksReconciled
from recserver._internal.storage import folder_watcher as watcher
from recserver._internal.storage.folder_watcher import FolderWatcher
from recserver.testing import ScriptedExecutor

NEVER = 3600.0
"""Seconds between two looks: what is seen earlier was reported."""


class Looks:
    """What a folder held each time it was looked at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._news = asyncio.Event()
        self.seen: list[dict[str, str]] = []

    async def look(self) -> None:
        self.seen.append(await asyncio.to_thread(self._content))
        self._news.set()

    def _content(self) -> dict[str, str]:
        files = self._folder.glob("*.json") if self._folder.exists() else ()
        return {path.name: path.read_text() for path in files}

    async def until(self, holds: Callable[[dict[str, str]], bool]) -> None:
        """Return once the folder was looked at and held what it should."""
        async with asyncio.timeout(20):
            while not (self.seen and holds(self.seen[-1])):
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def watching(folder: Path, rescan: float) -> AsyncIterator[Looks]:
    """Watch a folder for as long as the block lasts."""
    looks = Looks(folder)
    one = FolderWatcher((folder.parent, folder), looks.look, rescan, SystemClock())
    work = asyncio.create_task(one.run())
    try:
        async with asyncio.timeout(20):
            await one.ready.wait()
        yield looks
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tasks"
    path.mkdir()
    return path


def edit(folder: Path) -> dict[str, Callable[[], object]]:
    """Ways in which people and editors change files, in order."""
    path, other = folder / "a.json", folder / ".a.json.swp"
    return {
        '{"n": 1}': lambda: path.write_text('{"n": 1}'),
        '{"n": 2}': lambda: (other.write_text('{"n": 2}'), other.replace(path)),
        '{"n": 3}': lambda: (path.unlink(), path.write_text('{"n": 3}')),
        '{"n": 4}': lambda: (path.unlink(), path.symlink_to("../elsewhere")),
    }


@pytest.mark.slow
@pytest.mark.parametrize("polling", [False, True])
async def test_edits_of_every_kind_are_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, polling: bool
) -> None:
    if polling:
        monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    (folder.parent / "elsewhere").write_text('{"n": 4}')
    async with watching(folder, 1 if polling else NEVER) as looks:  # polls overlook what happens within a second
        for content, change in edit(folder).items():
            await asyncio.to_thread(change)
            await looks.until(lambda seen, content=content: seen == {"a.json": content})
        (folder / "a.json").unlink()
        await looks.until(lambda seen: seen == {})


async def test_foreign_files_cause_no_refresh(folder: Path) -> None:
    async with watching(folder, NEVER) as looks:
        for name in (".a.json.0123456789ab.tmp", ".scheduler.json", "a.json~", "a.json.swp", "4913", "rows.csv"):
            (folder / name).write_text("x")
        (folder / "a.json").write_text("{}")
        await looks.until(lambda seen: "a.json" in seen)
    assert len(looks.seen) == 2  # once to begin with


async def test_what_is_not_ours_does_not_put_off_the_rescan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder full of others' changes is looked at all the same, for it may have become deaf to ours."""
    reports: asyncio.Queue[set[Any]] = asyncio.Queue()

    async def foreign(*_: Any, **options: Any) -> AsyncIterator[set[Any]]:
        while True:
            report = await reports.get()
            if options["watch_filter"] is None:
                yield report

    monkeypatch.setattr(watcher, "awatch", foreign)
    async with watching(folder, 0.0) as looks:
        before = len(looks.seen)
        reports.put_nowait({(1, str(folder / "rows.csv"))})
        await looks.until(lambda _: len(looks.seen) > before)


async def test_a_folder_that_was_removed_and_made_again_is_watched_again(folder: Path) -> None:
    async with watching(folder, NEVER) as looks:
        for number in range(3):
            (folder / "a.json").write_text(str(number))
            await looks.until(lambda seen, number=number: seen == {"a.json": str(number)})
            shutil.rmtree(folder)
            await looks.until(lambda seen: seen == {})
            before = len(looks.seen)
            folder.mkdir()
            await looks.until(lambda _, before=before: len(looks.seen) > before)


async def test_without_notifications_the_folders_are_rescanned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watcher.awatch

    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()

    def deaf(*_: Path, **options: Any) -> Any:
        return watched(elsewhere, **options)

    monkeypatch.setattr(watcher, "awatch", deaf)
    async with watching(folder, 0.1) as looks:
        (folder / "a.json").write_text("{}")
        await looks.until(lambda seen: seen == {"a.json": "{}"})


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("a fault in the library")])
async def test_where_nothing_can_be_watched_the_folders_are_polled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    watched = watcher.awatch

    def exhausted(*paths: Path, **options: Any) -> Any:
        if not options["force_polling"]:
            raise error
        return watched(*paths, **options)

    monkeypatch.setattr(watcher, "awatch", exhausted)
    looks = Looks(folder)
    work = asyncio.create_task(FolderWatcher((folder,), looks.look, 0.1, SystemClock()).run())
    (folder / "a.json").write_text("{}")
    await looks.until(lambda seen: seen == {"a.json": "{}"})
    assert caplog.text.count("the folders are polled instead") == 1
    work.cancel()


async def test_without_polling_the_folders_are_rescanned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(*_: Path, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(watcher, "awatch", impossible)
    looks = Looks(folder)
    work = asyncio.create_task(FolderWatcher((folder,), looks.look, 0.01, SystemClock()).run())
    for number in range(3):
        (folder / "a.json").write_text(str(number))
        await looks.until(lambda seen, number=number: seen == {"a.json": str(number)})
    work.cancel()


async def test_an_error_in_refresh_does_not_end_the_watching(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looks = Looks(folder)

    async def faulty() -> None:
        await looks.look()
        raise ValueError("what was found there")

    one = FolderWatcher((folder,), faulty, NEVER, SystemClock())
    work = asyncio.create_task(one.run())
    await one.ready.wait()
    for number in range(2):
        (folder / "a.json").write_text(str(number))
        await looks.until(lambda seen, number=number: seen == {"a.json": str(number)})
    assert "what was found there" in caplog.text
    work.cancel()


async def test_task_files_take_effect_without_a_restart(data_dir: Path, settings: Settings) -> None:
    task = {"model_id": "m", "interactions_data_chef_id": "c", "interval": 60}
    async with RecServer(data_dir, settings, executor=ScriptedExecutor()) as rec:
        path = rec.data_dir / "tasks" / "t.json"
        with rec.events.listen() as events:

            async def reconciled(until: Callable[[TasksReconciled], bool]) -> None:
                async with asyncio.timeout(20):
                    await events.next(TasksReconciled, until)

            text = json.dumps(task)
            path.write_text(text[:20])  # half of it, as a slow writer leaves it
            await reconciled(lambda _: "t" in rec._services.scheduler.file_errors)
            assert "not valid JSON" in (await rec.list_tasks())["t"]["last_error"]
            path.write_text(text)
            await reconciled(lambda event: event.task_names == ("t",))
            assert "does not exist" in (await events.next(RunSkipped)).reason
            path.write_text(json.dumps(task | {"interval": 90}))
            await reconciled(lambda _: interval(rec) == 90)
            path.write_text("{")
            await reconciled(lambda _: "t" in rec._services.scheduler.file_errors)
            assert interval(rec) == 90
            shutil.rmtree(path.parent)
            await reconciled(lambda event: event.task_names == ())
            path.parent.mkdir()
            path.write_text(text)
            await reconciled(lambda event: event.task_names == ("t",))


def interval(rec: RecServer) -> float | None:
    """The interval with which the loop of task ``t`` runs."""
    loop = rec._services.scheduler.loop("t")
    return loop and loop.spec.interval
