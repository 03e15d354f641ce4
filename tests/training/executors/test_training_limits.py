"""Trainings that are stuck or greedy end with a sentence, alone, and soon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recserver._internal.core.errors import TrainingFailed, WorkerDied
from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.jobs import Progress
from tests.helpers.pids import lives
from tests.helpers.worker_jobs import MakeJob, Started

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="session")]


def ignore(_: Progress) -> None:
    """For trainings whose progress nobody asks for."""


def resident() -> int:
    """Bytes that this process keeps in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.asynccontextmanager
async def busy_machine() -> AsyncIterator[None]:
    """Processes that want all cores and more."""
    forever = (sys.executable, "-c", "while True: pass")
    greedy = [await asyncio.create_subprocess_exec(*forever) for _ in range(1 + (os.cpu_count() or 1))]
    yield
    for process in greedy:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("how", ["waits", "holds the interpreter's lock", "is stopped"])
async def test_a_training_that_is_stuck_ends_at_its_limit_and_alone(
    pool: ProcessExecutor, make_job: MakeJob, fifo: Path, tmp_path: Path, how: str
) -> None:
    innocent = Started(pool, make_job(["rows"], ["wait", str(fifo)]))
    await innocent.has_read()
    (innocent_pid,) = pool.pids
    never = tmp_path / "never"
    os.mkfifo(never)
    step = ["hold"] if how == "holds the interpreter's lock" else ["wait", str(never)]
    await pool.run(make_job(), ignore)  # so that the start of a process does not count
    limit = 2.0
    stuck = Started(pool, make_job(["rows"], step).model_copy(update={"time_limit": limit}))
    begun = time.monotonic()
    await stuck.has_read()
    (pid,) = set(pool.pids) - {innocent_pid}
    if how == "is stopped":
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TrainingFailed, match="took longer than its limit of 2 seconds and was ended") as failure:
        await stuck.task
    assert limit <= time.monotonic() - begun < limit + 1
    assert not isinstance(failure.value, WorkerDied)
    assert not lives(pid)
    assert pool.pids == [innocent_pid]
    await pool.run(make_job(), ignore)
    await asyncio.to_thread(fifo.write_bytes, b"")
    assert (await innocent.task).size > 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may hurry a process")
async def test_it_ends_as_soon_on_a_machine_that_never_rests(pool: ProcessExecutor, make_job: MakeJob) -> None:
    stuck = Started(pool, make_job(["rows"], ["hold"]))
    await stuck.has_read()
    (pid,) = pool.pids
    async with busy_machine():
        begun = time.monotonic()
        stuck.task.cancel()
        await asyncio.wait([stuck.task])
    assert time.monotonic() - begun < 1  # it took seconds, as it has only what all others leave
    assert not lives(pid)


async def test_time_in_the_queue_does_not_count(make_job: MakeJob, fifo: Path) -> None:
    pool = ProcessExecutor(1, priority="low")
    first = Started(pool, make_job(["rows"], ["wait", str(fifo)]))
    await first.has_read()
    second = Started(pool, make_job().model_copy(update={"time_limit": 60.0}))
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(0.2, passed.set_result, None)
    await passed
    short = Started(pool, make_job().model_copy(update={"time_limit": 0.1}))
    assert not second.task.done() and not short.task.done()
    await asyncio.to_thread(fifo.write_bytes, b"")
    await first.task
    assert (await second.task).size > 0
    await asyncio.gather(short.task, return_exceptions=True)
    await pool.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
async def test_a_training_that_takes_memory_for_ever_ends_and_the_next_is_unharmed(
    pool: ProcessExecutor, make_job: MakeJob
) -> None:
    await pool.run(make_job(), ignore)
    (pid,) = pool.pids
    before = resident()
    said = "ran out of memory beyond its limit of 200 MiB: raise it, or read less"
    for way in ("allocate", "allocate_arrays"):
        for _ in range(2):
            with pytest.raises(TrainingFailed, match=said):
                await pool.run(make_job([way]).model_copy(update={"memory_limit": 200}), ignore)
            assert pool.pids == [pid]
            assert (await pool.run(make_job().model_copy(update={"memory_limit": 200}), ignore)).size > 0
    assert (await pool.run(make_job(["take", 400]), ignore)).size > 0  # the limit went with its training
    assert resident() - before < 50 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
async def test_a_limit_counts_from_what_a_worker_takes_already(pool: ProcessExecutor, make_job: MakeJob) -> None:
    await pool.run(make_job(["keep", 150]), ignore)
    assert (await pool.run(make_job(["take", 60]).model_copy(update={"memory_limit": 200}), ignore)).size > 0


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_twenty_that_are_stopped_and_twenty_that_are_greedy(
    pool: ProcessExecutor, make_job: MakeJob
) -> None:
    before = resident()
    for _ in range(20):
        stuck = Started(pool, make_job(["rows"], ["hold"]).model_copy(update={"time_limit": 5.0}))
        await stuck.has_read()
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TrainingFailed, match="limit of 5 seconds"):
            await stuck.task
        assert not lives(pid)
        with pytest.raises(TrainingFailed, match="ran out of memory"):
            await pool.run(make_job(["allocate"]).model_copy(update={"memory_limit": 200}), ignore)
        for worker in pool.pids:  # else the stopped one's place is taken by it
            os.kill(worker, signal.SIGKILL)
    assert resident() - before < 50 * 2**20
