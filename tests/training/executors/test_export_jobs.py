"""Exports in worker processes: beside the trainings, ended at once, and a death costs no other job."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from recserver._internal.core.errors import ExportFailed
from recserver._internal.recommend.filters import parse_condition
from recserver._internal.training.executors.process_pool import MAX_EXPORTS, ProcessExecutor
from recserver._internal.training.export.export_job import ExportJob, ExportProgress, ExportResult, FileTarget
from tests.helpers.exported import in_file, put_crowd, wanted
from tests.helpers.pids import lives
from tests.helpers.worker_jobs import MakeJob, Started

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="session")]

LONG = 400_000
"""Users whose export takes seconds, even on a machine that is quick."""


class Exporting:
    """An export under way in a pool."""

    def __init__(self, pool: ProcessExecutor, job: ExportJob) -> None:
        self.progress: list[ExportProgress] = []
        self._begun = asyncio.Event()
        self.task: asyncio.Task[ExportResult] = asyncio.create_task(pool.export(job, self._note))

    def _note(self, progress: ExportProgress) -> None:
        self.progress.append(progress)
        self._begun.set()

    async def begun(self) -> None:
        """Return once it writes."""
        begun = asyncio.ensure_future(self._begun.wait())
        await asyncio.wait((begun, self.task), return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        assert not self.task.done(), self.task.result()


def job(model: Path, out: Path) -> ExportJob:
    return ExportJob(
        model_id=model.stem, model=model, options={"n": 1}, target=FileTarget(out=out, extension=".jsonl")
    )


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_crowd(tmp_path_factory.mktemp("crowd"), LONG)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return put_crowd(tmp_path, 5)


async def test_an_export_and_a_training_may_use_the_same_worker(
    pool: ProcessExecutor, make_job: MakeJob, few: Path, tmp_path: Path
) -> None:
    told: list[ExportProgress] = []
    result = await pool.export(job(few, tmp_path / "top"), told.append)
    assert (result.rows, result.users, result.model_version) == (5, 5, 1)
    (pid,) = pool.pids
    assert told[0] == ExportProgress(users_done=0, users=5)
    assert (await pool.run(make_job(), lambda _: None)).data_report is not None
    await pool.export(job(few, tmp_path / "top.jsonl"), told.append)
    assert pool.pids == [pid]
    assert in_file(tmp_path / "top.jsonl", "crowd") == [row for row in wanted(few) if row[1] == 1]


async def test_neither_waits_for_the_other(
    make_job: MakeJob, few: Path, crowd: Path, tmp_path: Path, fifo: Path
) -> None:
    pool = ProcessExecutor(1, priority="low")
    training = Started(pool, make_job(["rows"], ["wait", str(fifo)]))
    await training.has_read()
    assert (await pool.export(job(few, tmp_path / "top"), lambda _: None)).rows == 5
    assert not training.task.done()
    training.task.cancel()
    exports = [Exporting(pool, job(crowd, tmp_path / f"top{number}")) for number in range(MAX_EXPORTS)]
    for one in exports:
        await one.begun()
    waiting = Exporting(pool, job(few, tmp_path / "later"))
    assert (await pool.run(make_job(), lambda _: None)).data_report is not None
    assert not any(one.task.done() for one in (*exports, waiting))
    exports[0].task.cancel()  # which leaves its place to the one that waits
    assert (await waiting.task).rows == 5
    await pool.close()
    await asyncio.gather(training.task, *(one.task for one in exports), return_exceptions=True)


async def test_a_cancelled_export_is_gone_when_the_call_returns(
    pool: ProcessExecutor, crowd: Path, tmp_path: Path
) -> None:
    export = Exporting(pool, job(crowd, tmp_path / "top"))
    await export.begun()
    (pid,) = pool.pids
    export.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await export.task
    assert not lives(pid) and pool.pids == []


async def test_a_killed_worker_costs_its_export_alone(
    pool: ProcessExecutor, crowd: Path, few: Path, tmp_path: Path
) -> None:
    export = Exporting(pool, job(crowd, tmp_path / "top"))
    await export.begun()
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(ExportFailed, match="killed by signal 9 before the export ended"):
        await export.task
    assert (await pool.export(job(few, tmp_path / "again"), lambda _: None)).rows == 5


async def test_what_is_wrong_is_told_and_the_worker_goes_on(
    pool: ProcessExecutor, few: Path, tmp_path: Path
) -> None:
    wrong = job(few, tmp_path / "top").model_copy(update={"options": {"filter": [parse_condition("a=b")]}})
    told: list[ExportProgress] = []
    with pytest.raises(ExportFailed, match="knows no attributes"):
        await pool.export(wrong, told.append)
    with pytest.raises(ExportFailed, match="could not be written"):
        await pool.export(job(few, tmp_path / "no" / "top"), told.append)
    few.write_bytes(b"no model")
    with pytest.raises(ExportFailed, match="crowd"):
        await pool.export(job(few, tmp_path / "top"), told.append)
    assert told == [] and len(pool.pids) == 1
