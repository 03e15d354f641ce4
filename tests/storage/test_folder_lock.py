"""The lock of a data folder: between servers of one process, around a failed opening, and on odd disks."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from recserver import RecServer, Settings
from recserver._internal.core.errors import DataFolderInUse, ServerCannotStart
from recserver._internal.storage import folder_lock as module
from recserver._internal.storage.folder_lock import DataLock, require_unlocked
from recserver._internal.training.trainer import Trainer
from recserver.testing import ScriptedExecutor
from tests.helpers.pids import children_of

pytestmark = pytest.mark.process

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def lock(tmp_path: Path) -> DataLock:
    return DataLock(tmp_path)


def a_server(data_dir: Path, settings: Settings) -> RecServer:
    return RecServer(data_dir, settings, executor=ScriptedExecutor())


def test_the_file_names_the_holder_as_long_as_there_is_one(lock: DataLock, tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    file.write_text("what a longer or a killed holder left there, however long that may have been" * 2)
    lock.acquire()
    assert json.loads(file.read_text())["pid"] == os.getpid()
    with pytest.raises(DataFolderInUse, match=f"process {os.getpid()} on host"):
        DataLock(tmp_path).acquire()
    with pytest.raises(DataFolderInUse, match=f"process {os.getpid()} on host"):
        require_unlocked(tmp_path)
    assert json.loads(file.read_text())["pid"] == os.getpid()  # those refused left it alone
    lock.release()
    assert file.read_text() == ""
    require_unlocked(tmp_path)
    DataLock(tmp_path).acquire()


def test_checking_the_lock_creates_no_file(tmp_path: Path) -> None:
    require_unlocked(tmp_path)
    require_unlocked(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"pid": "x", "host": 1}', b"\xff" * 9000])
def test_a_holder_that_does_not_say_who_it_is(lock: DataLock, tmp_path: Path, content: bytes) -> None:
    with (tmp_path / ".lock").open("wb", buffering=0) as file:
        file.write(content)
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataFolderInUse, match="in use by another server: stop that one"):
            lock.acquire()
    lock.acquire()


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[float]:
    """Let ``act`` happen while the lock is waited for; what is returned fills with the waits."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        act()

    monkeypatch.setattr(module, "blocking_sleep", wait)
    return waits


def test_a_check_of_the_lock_is_waited_for(
    lock: DataLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / ".lock").open("w") as file:
        file.write('{"pid": 1, "host": "long gone"}')
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        waits = meanwhile(monkeypatch, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        lock.acquire()
    assert len(waits) == 1


def test_who_has_just_taken_it_is_waited_for_until_it_says_who_it_is(
    lock: DataLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".lock"
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waits = meanwhile(monkeypatch, lambda: file.write_text('{"pid": 17, "host": "h"}'))
        with pytest.raises(DataFolderInUse, match="process 17 on host 'h'"):
            lock.acquire()
    assert len(waits) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_is_used_with_a_warning(
    lock: DataLock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "_try_lock", refuse)
    lock.acquire()
    assert os.strerror(number) in caplog.text and "does not support locks" in caplog.text


async def test_a_disk_that_cannot_be_written_is_refused(
    data_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith(".lock"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(module.os, "open", refuse)
    with pytest.raises(ServerCannotStart, match="read-only file system: serve it with --read-only"):
        await a_server(data_dir, settings).__aenter__()
    assert list(data_dir.iterdir()) == []


async def test_a_second_server_in_one_process_is_refused(data_dir: Path, settings: Settings) -> None:
    async with a_server(data_dir, settings) as first:
        litter = data_dir / "models/.m.pkl.0123456789ab.tmp"
        litter.write_text("of the one that runs")
        (data_dir / "models/m_config.json").write_text('{"algorithm": "nmf", "status": "training"}')
        (data_dir / "link").symlink_to(data_dir)
        for path in (data_dir, data_dir / "link", data_dir / ".." / data_dir.name):
            second = a_server(path, settings)
            async with asyncio.timeout(20):
                with pytest.raises(DataFolderInUse, match=f"in use by process {os.getpid()}"):
                    await second.__aenter__()
            assert not second.is_open
        assert litter.exists() and '"training"' in (data_dir / "models/m_config.json").read_text()
        assert await first.list_tasks() == {}
    async with second:
        assert not litter.exists()


async def test_a_failed_opening_lets_go(
    data_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir.mkdir()
    (data_dir / "tasks").write_text("in the way")
    with pytest.raises(ServerCannotStart, match="cannot be used"):
        await a_server(data_dir, settings).__aenter__()
    (data_dir / "tasks").unlink()

    async def fail(_: Trainer) -> None:
        with pytest.raises(DataFolderInUse):
            await asyncio.to_thread(DataLock(data_dir).acquire)
        raise LookupError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "recover", fail)
        with pytest.raises(LookupError):
            await a_server(data_dir, settings).__aenter__()
    async with a_server(data_dir, settings):
        pass


async def test_an_opening_that_is_cancelled_lets_go(
    data_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, loop = DataLock.acquire, asyncio.get_running_loop()
    opening = asyncio.ensure_future(a_server(data_dir, settings).__aenter__())

    def cancel_then_take(lock: DataLock) -> None:
        loop.call_soon_threadsafe(opening.cancel)
        real(lock)

    with monkeypatch.context() as patch:
        patch.setattr(DataLock, "acquire", cancel_then_take)
        await asyncio.wait([opening])
    assert opening.cancelled()
    async with a_server(data_dir, settings):
        pass


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see open files")
async def test_workers_do_not_inherit_it(data_dir: Path, settings: Settings) -> None:
    def opened(pid: int) -> list[str]:
        return [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()]

    async with RecServer(data_dir, settings) as rec:
        before = children_of(os.getpid())
        (data_dir / "rows.csv").write_text("user_id,item_id\nann,tea\n")
        await rec.validate_data_chef(type="csv", file_path="rows.csv")
        (worker,) = children_of(os.getpid()) - before
        path = str(data_dir.resolve() / ".lock")
        assert opened(os.getpid()).count(path) == 1
        assert opened(worker) and path not in opened(worker)
