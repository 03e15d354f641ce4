"""What all tests share: the watch over the event loop, data folders, and where the test data lies."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
import time
import traceback
from asyncio import Handle
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import hypothesis
import pytest
from blockbuster import BlockBuster

import recserver
from recserver import RecServer, Settings
from tests.helpers.shared_workers import SharedWorkers

pytest_plugins = ["tests.helpers.workbench_fixtures"]

hypothesis.settings.register_profile("recserver", deadline=None, max_examples=50)  # no test is timed
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)
hypothesis.settings.load_profile("recserver")

MEMORY_FOLDER, MIN_FREE_BYTES = Path("/dev/shm"), 8 * 2**30
"""Temporary folders of tests are in memory where there is plenty: recserver syncs every file that it writes."""

if (
    MEMORY_FOLDER.is_dir()
    and not os.statvfs(MEMORY_FOLDER).f_flag & os.ST_NOEXEC
    and shutil.disk_usage(MEMORY_FOLDER).free >= MIN_FREE_BYTES
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_FOLDER))

MAX_CALLBACK_SECONDS = 1.0
"""Processor time that one callback may hold the event loop; waiting for a busy machine does not count."""

OURS = str(Path(recserver.__file__).parent)
RUN_ONCE = asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]

run_by_recserver: WeakKeyDictionary[asyncio.AbstractEventLoop, bool] = WeakKeyDictionary()


MARKS_OF_FIXTURES = {
    "shared_workers": "process", "pool": "process", "postgresql": "database", "mariadb": "database"
}  # fmt: skip
"""A test that uses one of these fixtures has the mark."""


def pytest_itemcollected(item: pytest.Item) -> None:
    for name in MARKS_OF_FIXTURES.keys() & getattr(item, "fixturenames", ()):
        item.add_marker(MARKS_OF_FIXTURES[name])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Where everything must be there, as in CI, a test that would be skipped fails with the reason instead."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("RECSERVER_FORBID_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is forbidden here: {report.longrepr}"
    return report


gc.disable()  # until the tests are collected: what collecting makes stays


def pytest_collection_finish() -> None:
    """Keep the modules and the collected tests out of garbage collections, some of which tests ask for."""
    gc.enable()
    gc.collect()
    gc.freeze()


def _may_block(never_blocks: Callable[..., bool], *args: Any, **kwargs: Any) -> bool:
    """Whether a call needs no closer look, which takes BlockBuster several times as long."""
    if never_blocks(*args, **kwargs):
        return True
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_filename.startswith(OURS):
            return False
        if frame.f_code is RUN_ONCE:
            return not _is_run_by_recserver(asyncio.get_running_loop(), frame)
    return True  # what a test itself does on the loop is its own business


def _is_run_by_recserver(loop: asyncio.AbstractEventLoop, frame: FrameType) -> bool:
    """Whether recserver started this loop. Remembered: the frames below a loop stay the same, and are many."""
    if loop not in run_by_recserver:
        frames = (one for one, _ in traceback.walk_stack(frame))
        run_by_recserver[loop] = any(one.f_code.co_filename.startswith(OURS) for one in frames)
    return run_by_recserver[loop]


@pytest.fixture(scope="session", autouse=True)
def blocking_calls_fail() -> Iterator[None]:
    """A blocking call of recserver on an event loop raises an error."""
    guard = BlockBuster("recserver")
    # Starting a process waits for exec to succeed: a few milliseconds, by asyncio's own design.
    for name in ("os.read", "os.posix_spawn"):
        if name in guard.functions:
            guard.functions[name].can_block_in("subprocess.py", "_execute_child")
    for function in guard.functions.values():
        # A time zone is a file of a few kilobytes, read once and cached.
        function.can_block_in("recserver/_internal/training/task.py", "time_zone")
        function.can_block_predicate = partial(_may_block, function.can_block_predicate)
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture(scope="session", autouse=True)
def slow_callbacks() -> Iterator[list[str]]:
    """The callbacks of any event loop that took longer than ``MAX_CALLBACK_SECONDS``.

    asyncio's debug mode finds them too, but notes a stack for every future, which doubles the time of the tests.
    """
    slow, run = list[str](), Handle._run

    def timed(handle: Handle) -> None:
        start = time.thread_time()
        run(handle)
        # Starting a process is asyncio's own work, and a test that starts twenty at once takes long.
        if time.thread_time() - start > MAX_CALLBACK_SECONDS and "BaseSubprocessTransport" not in repr(handle):
            slow.append(repr(handle))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handle, "_run", timed)
        yield slow


@pytest.fixture(autouse=True)
def loop_is_never_blocked(slow_callbacks: list[str]) -> Iterator[None]:
    """Fail every test in which a callback held the event loop for too long."""
    slow_callbacks.clear()
    yield
    assert not slow_callbacks


@pytest.fixture
def settings() -> Settings:
    """Settings on which the surroundings have no influence; one training at a time."""
    return Settings(port=0, training_processes=1, training_priority="low", shutdown_grace=5, rescan_seconds=1)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture(scope="session")
def shared_workers() -> Iterator[SharedWorkers]:
    """Real worker processes that serve one test after the other."""
    workers = SharedWorkers()
    yield workers
    workers.shut_down()


@pytest.fixture
async def rec(data_dir: Path, settings: Settings, shared_workers: SharedWorkers) -> AsyncIterator[RecServer]:
    """An open server over an empty data folder, with real worker processes."""
    async with RecServer(data_dir, settings, executor=shared_workers) as server:
        yield server


@pytest.fixture
def test_data() -> Path:
    """The folder with public data sets; RECSERVER_TEST_DATA says where it is."""
    folder = os.environ.get("RECSERVER_TEST_DATA")
    if not folder:
        pytest.skip("set RECSERVER_TEST_DATA to a folder with ml-latest-small/ratings.csv to run this test")
    return Path(folder)
