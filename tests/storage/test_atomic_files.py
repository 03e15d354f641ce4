"""Files are replaced whole or not at all, and no file that lies about holds the server up."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.core.errors import InvalidInput
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.scheduling.task_state import TaskStateStore
from recserver._internal.storage import atomic_files as files
from recserver._internal.storage import disk
from recserver._internal.training.task_store import TaskStore

STEPS = ["open", "write", "fsync of the file", "rename", "fsync of the folder"]


async def write_object(path: Path, content: dict[str, Any]) -> None:
    await files.to_thread_shielded(files.write_atomic, path, files.json_bytes(content))


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


def broken(step: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let one step of every write fail as the system does on a full or failing disk."""

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    class Unwritable(io.FileIO):
        write = fail

    fsync = os.fsync

    def picky(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (step == "fsync of the folder"):
            fail()
        fsync(descriptor)

    match step:
        case "open":
            monkeypatch.setattr(disk, "open", fail, raising=False)
        case "write":
            monkeypatch.setattr(disk, "open", Unwritable, raising=False)
        case "rename":
            monkeypatch.setattr(Path, "replace", fail)
        case "opening":
            monkeypatch.setattr(os, "open", fail)
        case _:
            monkeypatch.setattr(os, "fsync", picky)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("step", STEPS)
async def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    path = tmp_path / "x.json"
    await write_object(path, {"old": 1})
    broken(step, monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        await write_object(path, {"new": 2})
    monkeypatch.undo()
    assert names(tmp_path) == ["x.json"]
    # Once renamed, the new file is there, whether or not the folder could be synced.
    assert await asyncio.to_thread(files.read_object, path) == ({"new": 2} if step == STEPS[-1] else {"old": 1})


async def test_a_file_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    contents = [{"n": number, "much": "x" * 200_000} for number in range(2)]
    await write_object(path, contents[0])
    writing = asyncio.ensure_future(asyncio.gather(*(write_object(path, contents[n % 2]) for n in range(20))))
    while not writing.done():
        assert await asyncio.to_thread(files.read_object, path) in contents
        assert await files.list_names(tmp_path, ".json") == ["x.json"]
    await writing
    assert names(tmp_path) == ["x.json"]


async def test_a_cancelled_write_is_over_when_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could still rename its file when the next write, which knows better, has done so."""
    path, renaming, go_on = tmp_path / "x.json", asyncio.Event(), threading.Event()
    put_in_place, loop = files.replace_durably, asyncio.get_running_loop()

    def slowly(temporary: Path, path: Path) -> None:
        loop.call_soon_threadsafe(renaming.set)
        go_on.wait()
        put_in_place(temporary, path)

    monkeypatch.setattr(files, "replace_durably", slowly)
    write = asyncio.ensure_future(write_object(path, {"early": True}))
    await renaming.wait()
    write.cancel()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not write.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await write
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\xfd", "not valid JSON"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a number"),
        (b'{"a": 1e999}', "1e999 is not a number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
        (b"[1]", "does not hold a JSON object"),
        (b"null", "does not hold a JSON object"),
        (b'{"a": "' + b"x" * 2**20 + b'"}', "is larger than 1048576 bytes"),
    ],
    ids=range(12),
)
async def test_what_is_no_json_object_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=said) as refusal:
        await asyncio.to_thread(files.read_object, path)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("content", [{"a": "\ud800", "ü": ["\udfff", "é😀"]}, {"a": [[[[1.5]]]]}, {"": None}])
async def test_what_is_read_can_be_written_and_read_again(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    await write_object(path, content)
    assert await asyncio.to_thread(files.read_object, path) == content
    path.read_bytes().decode()


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "link to a device", "link in a circle", "forbidden"])
async def test_a_path_that_is_not_a_regular_file_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "x.json"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path = Path("/dev/zero")
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "link in a circle":
            path.symlink_to(path)
        case "forbidden":  # not by its mode, for the superuser may read everything
            broken("opening", monkeypatch, errno.EACCES)
    async with asyncio.timeout(20):
        with pytest.raises(InvalidInput):
            await asyncio.to_thread(files.read_object, path)


async def test_a_link_is_followed_and_replaced_by_a_file(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "x.json", tmp_path / "elsewhere"
    elsewhere.write_text('{"a": 1}')
    path.symlink_to(elsewhere)
    assert await asyncio.to_thread(files.read_object, path) == {"a": 1}
    await write_object(path, {"a": 2})
    assert not path.is_symlink()
    assert elsewhere.read_text() == '{"a": 1}'


async def test_names_that_are_not_unicode_or_hidden_are_passed_over(tmp_path: Path) -> None:
    for name in (b"a.json", b"\xff.json", b".b.json", b".c.json.0123456789ab.tmp", b"d.json~", b"e.JSON"):
        (tmp_path / os.fsdecode(name)).write_text("{}")
    assert await files.list_names(tmp_path, ".json") == ["a.json"]
    assert await files.list_names(tmp_path / "none", ".json") == []


async def test_temporary_files_of_a_killed_server_are_not_listed_and_are_removed(tmp_path: Path) -> None:
    for name in (
        ".a_config.json.0123456789ab.tmp",
        ".a.pkl.0123456789ab.tmp",
        ".hidden",
        "a.tmp",
        "a_config.json",
    ):
        (tmp_path / name).write_text("{")
    models, tasks = ModelStore(tmp_path), TaskStore(tmp_path)
    assert await models.ids() == ["a"]
    assert await tasks.names() == ["a_config"]
    await asyncio.to_thread(models.recover)
    assert names(tmp_path) == [".hidden", "a.tmp", "a_config.json"]
    await asyncio.to_thread(ModelStore(tmp_path / "none").recover)


async def test_a_damaged_task_state_is_reset_and_an_unwritable_one_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ".scheduler.json"
    path.write_text('{"t": {"runs": "many"}}')
    journal = TaskStateStore(path)
    await journal.open()
    await asyncio.gather(*(journal.update(f"t{number}", runs=number) for number in range(30)))
    again = TaskStateStore(path)
    await again.open()
    assert [again.get(f"t{number}").runs for number in range(30)] == list(range(30))
    broken("rename", monkeypatch, errno.ENOSPC)
    await journal.update("t1", runs=7)
    assert journal.get("t1").runs == 7
    assert "could not be saved" in caplog.text


async def test_readable_entries_of_a_task_state_are_preserved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ".scheduler.json"
    path.write_text('{"t": {"runs": "many"}, "u": {"runs": 3}}')
    journal = TaskStateStore(path)
    await journal.open()
    assert (journal.names, journal.get("u").runs) == (["u"], 3)
    assert "the state of task t is invalid" in caplog.text
    path.write_text("{bad")
    await journal.open()
    assert journal.names == []
    assert path.with_name(".scheduler.json.broken").read_text() == "{bad"
    assert "the state of all tasks is lost" in caplog.text


async def test_what_is_prepared_is_on_the_disk_before_it_can_be_seen(tmp_path: Path) -> None:
    journal, again = TaskStateStore(tmp_path / "journal.json"), TaskStateStore(tmp_path / "journal.json")
    await journal.update("t", last_status="training", skipped=1)
    await journal.prepare("t", last_status="completed")
    await again.refresh()
    assert (again.get("t").last_status, journal.get("t").last_status) == ("completed", "training")
    journal.note("t", last_status="completed")
    assert journal.get("t") == again.get("t")


async def test_a_change_between_the_preparation_and_its_moment_is_not_lost(tmp_path: Path) -> None:
    journal, again = TaskStateStore(tmp_path / "journal.json"), TaskStateStore(tmp_path / "journal.json")
    await journal.update("t", last_status="training", skipped=1)
    await journal.prepare("t", last_status="completed")
    await journal.update("t", skipped=2)
    journal.note("t", last_status="completed")
    await journal.flush()
    await again.refresh()
    assert (again.get("t").last_status, again.get("t").skipped) == ("completed", 2)
    assert journal.get("t") == again.get("t")
