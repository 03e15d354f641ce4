"""The fixtures that watch the event loop in all tests fail a test that blocks it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from blockbuster import BlockingError

from recserver._internal.storage.model_file import pack

ROOT = Path(__file__).parents[1]

BLOCKED = """
import asyncio, time
from pathlib import Path
import pytest
from recserver._internal.storage.model_file import pack
from tests import conftest

conftest.MAX_CALLBACK_SECONDS /= 5  # so that this takes less time

async def test_a_disk_is_waited_for(tmp_path):
    pack(tmp_path / "m.pkl", {}, {})

async def test_a_callback_takes_long():
    await asyncio.sleep(0)
    end = time.thread_time() + 1.1 * conftest.MAX_CALLBACK_SECONDS
    while time.thread_time() < end:
        pass

async def test_nothing_is_wrong(tmp_path):
    await asyncio.to_thread(pack, tmp_path / "m.pkl", {}, {})
"""


async def test_blocking_calls_on_the_loop_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BlockingError):
        pack(tmp_path / "m.pkl", {}, {})
    await asyncio.to_thread(pack, tmp_path / "n.pkl", {}, {})


@pytest.mark.process
@pytest.mark.slow
def test_a_test_that_blocks_the_loop_fails(tmp_path: Path) -> None:
    (tmp_path / "test_blocked.py").write_text(BLOCKED)
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "tests.conftest", "-rA"]
    options += ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout"]  # only these, which start sooner than all
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path / "test_blocked.py")],
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    reports = [line.split() for line in run.stdout.splitlines() if "::test_" in line]
    ends = {report[1].rpartition("::")[2]: report[0] for report in reports if report[0] in ("FAILED", "ERROR")}
    assert "PASSED" in run.stdout
    assert ends == {
        "test_a_disk_is_waited_for": "FAILED",
        "test_a_callback_takes_long": "ERROR",
    }, run.stdout
