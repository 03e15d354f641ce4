"""What all tests share: the watch over the event loop, data folders, and where the test data lies."""

from __future__ import annotations

import asyncio
import linecache
import logging
import os
import re
import sys
from asyncio import constants
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from blockbuster import BlockBuster

import recserver
from recserver import RecServer, Settings

pytest_plugins = ["tests.helpers.workbench_fixtures"]

hypothesis.settings.register_profile("recserver", deadline=None)  # machines are noisy, and no test is timed
hypothesis.settings.load_profile("recserver")

SLOWEST_CALLBACK = 2.0
"""Seconds that one callback may hold the event loop. Shared machines stall by themselves, so it is no less."""

FRAMES = 5
"""How much asyncio's debug mode notes of where a future, a task or a callback was made."""

OURS = str(Path(recserver.__file__).parent)


class _SlowCallbacks(logging.Handler):
    """Collects asyncio's own complaints, which it makes in debug mode."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        took = re.search(r"took ([0-9.]+) seconds", message)
        # Loops of others, such as a worker's, report sooner. Starting a process is asyncio's own work, and a test
        # that starts twenty at once starves it.
        if took and float(took[1]) > SLOWEST_CALLBACK and "coro=<BaseSubprocessTransport." not in message:
            self.seen.append(message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Where everything must be there, as in CI, a test that would be skipped fails with the reason instead."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("RECSERVER_FORBID_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is forbidden here: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def short_notes_of_origins() -> Iterator[None]:
    """Long stacks, with a look at each file whether it has changed, are half of the work of tests over HTTP."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linecache, "checkcache", lambda filename=None: None)
        patch.setattr(constants, "DEBUG_STACK_DEPTH", FRAMES)
        yield


def _may_block(never_blocks: Callable[..., bool], *args: Any, **kwargs: Any) -> bool:
    """Whether a call needs no closer look, which takes BlockBuster several times as long."""
    if never_blocks(*args, **kwargs):
        return True
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_filename.startswith(OURS):
            return False
    return True  # what a test itself does on the loop is its own business


@pytest.fixture(autouse=True)
def loop_is_never_blocked() -> Iterator[None]:
    """Fail every test in which recserver blocks the event loop: by a blocking call, or by long work."""
    complaints = _SlowCallbacks()
    logger = logging.getLogger("asyncio")
    logger.addHandler(complaints)
    guard = BlockBuster("recserver")
    # Starting a process waits for exec to succeed: a few milliseconds, by asyncio's own design.
    for name in ("os.read", "os.posix_spawn"):
        if name in guard.functions:
            guard.functions[name].can_block_in("subprocess.py", "_execute_child")
    for function in guard.functions.values():
        # A time zone is a file of a few kilobytes, read once and kept.
        function.can_block_in("recserver/training/task.py", "time_zone")
        function.can_block_predicate = partial(_may_block, function.can_block_predicate)
    guard.activate()
    try:
        yield
    finally:
        guard.deactivate()
    logger.removeHandler(complaints)
    assert not complaints.seen


@pytest.fixture(autouse=True)
async def patient_loop() -> None:
    """In debug mode asyncio reports callbacks that take longer than this."""
    asyncio.get_running_loop().slow_callback_duration = SLOWEST_CALLBACK


@pytest.fixture
def settings() -> Settings:
    """Settings on which the surroundings have no influence; one training at a time."""
    return Settings(port=0, training_processes=1, shutdown_grace=5, rescan_seconds=1)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
async def rec(data_dir: Path, settings: Settings) -> AsyncIterator[RecServer]:
    """An open server over an empty data folder, with real worker processes."""
    async with RecServer(data_dir, settings) as server:
        yield server


@pytest.fixture
def test_data() -> Path:
    """The folder with public data sets; RECSERVER_TEST_DATA says where it is."""
    folder = os.environ.get("RECSERVER_TEST_DATA")
    if not folder:
        pytest.skip("set RECSERVER_TEST_DATA to a folder with ml-latest-small/ratings.csv to run this test")
    return Path(folder)
