"""Jobs for worker processes, and a pool to run them in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from recserver.algorithms.lookup import load_algorithm
from recserver.chefs.lookup import load_chef_class
from recserver.chefs.source_policy import SourcePolicy
from recserver.training.executors.process_pool import ProcessExecutor
from recserver.training.jobs import TrainingJob
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


@pytest.fixture
async def pool() -> AsyncIterator[ProcessExecutor]:
    """A pool with two places."""
    executor = ProcessExecutor(2, priority="low")
    yield executor
    await executor.close()
    assert executor.pids == []


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe: who opens one end waits for the other."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path
