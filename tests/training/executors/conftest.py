"""Jobs for worker processes, and a pool to run them in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.chefs.lookup import load_chef_class
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.training.executors.process_pool import ProcessExecutor, _kill
from recserver._internal.training.jobs import TrainingJob
from tests.helpers.worker_jobs import PLUGINS, MakeJob


@pytest.fixture(autouse=True)
def plugins_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test plug-ins are on the path, as an installed package is; workers have the server's path."""
    monkeypatch.syspath_prepend(PLUGINS)
    load_algorithm("quick")  # found once and for all, as in a server that has used it before
    load_chef_class("steps")


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Builds the job of a training whose chef takes the given steps."""
    made = 0

    def make(*steps: list[Any]) -> TrainingJob:
        nonlocal made
        made += 1
        return TrainingJob(
            model_id="m",
            model_version=made,
            algorithm="quick",
            hyperparameters={},
            data_chef_id="c",
            data_chef={"type": "steps", "steps": [*steps, ["rows"]]},
            policy=SourcePolicy(data_dir=tmp_path),
            out=tmp_path / f"packed{made}",
        )

    return make


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session_pool() -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor(2, priority="low", idle_seconds=3600)
    yield executor
    await executor.close()
    assert executor.pids == []


@pytest_asyncio.fixture(loop_scope="session")
async def pool(session_pool: ProcessExecutor) -> ProcessExecutor:
    """A pool of two workers, of which at most one has been started: by an earlier test, to save time."""
    assert not session_pool._busy
    while len(session_pool.pids) > 1:
        if worker := session_pool._take_idle():
            await _kill(worker)
    return session_pool


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe: who opens one end waits for the other."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path
