"""The pool of worker processes: what it gives to a training, and what it does when one misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.core.errors import SourceFailed, SourceUnchanged, TrainingFailed, WorkerDied
from recserver._internal.storage import model_file as artifact
from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.jobs import Progress
from tests.helpers.pids import children_of, ended, lives
from tests.helpers.worker_jobs import MakeJob, Started

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="session")]


def ignore(_: Progress) -> None:
    """For trainings whose progress nobody asks for."""


async def test_a_training_tells_how_far_it_is_and_leaves_a_packed_model(
    pool: ProcessExecutor, make_job: MakeJob
) -> None:
    job, seen = make_job(), list[Progress]()
    result = await pool.run(job, seen.append)
    assert [one.stage for one in seen] == ["starting", "reading", "reading", "evaluating", "fitting", "packing"]
    assert seen[-1].rows_read == result.final_stats["total_interactions"] == seen[2].rows_read > 0
    packed = artifact.load(job.out)
    assert (packed.size, packed.sha256) == (result.size, result.sha256)
    with pytest.raises(SourceUnchanged):
        await pool.run(job.model_copy(update={"previous_digest": result.digest}), ignore)


@pytest.mark.parametrize("step", [["wait", "FIFO"], ["hold"]], ids=["waiting", "holding the interpreter's lock"])
async def test_a_cancelled_training_is_gone_when_the_call_returns(
    pool: ProcessExecutor, make_job: MakeJob, fifo: Path, step: list[Any]
) -> None:
    started = Started(pool, make_job(["rows"], [str(fifo) if part == "FIFO" else part for part in step]))
    await started.has_read()
    (pid,) = pool.pids
    started.task.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await started.task
    assert not lives(pid)
    assert pool.pids == []
    await pool.run(make_job(), ignore)  # its place is free again


async def test_cancelling_before_the_process_has_started_leaves_nothing(make_job: MakeJob) -> None:
    pool, before = ProcessExecutor(2, priority="low"), children_of("self")
    for turns in range(8):
        started = Started(pool, make_job())
        for _ in range(turns):
            await asyncio.sleep(0)
        started.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await started.task
        assert pool.pids == []
    assert children_of("self") <= before


async def test_more_trainings_than_places_wait_their_turn(make_job: MakeJob, fifo: Path) -> None:
    pool = ProcessExecutor(1, priority="low")
    first = Started(pool, make_job(["rows"], ["wait", str(fifo)]))
    await first.has_read()
    second, third = Started(pool, make_job()), Started(pool, make_job())
    await asyncio.sleep(0)
    assert len(pool.pids) == 1
    assert [one.queue_position for one in (*second.progress, *third.progress)] == [1, 2]
    third.task.cancel()
    await asyncio.to_thread(fifo.write_bytes, b"")
    await first.task
    await second.task
    assert [(one.stage, one.queue_position) for one in third.progress] == [("waiting", 2)]
    await pool.close()


@pytest.mark.parametrize("priority", ["idle", "low"])
async def test_workers_yield_to_the_server(make_job: MakeJob, fifo: Path, priority: str) -> None:
    pool = ProcessExecutor(1, priority=priority)
    training = Started(pool, make_job(["rows"], ["wait", str(fifo)]))
    await training.has_read()
    (pid,) = pool.pids
    if priority == "idle":
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
    else:
        assert os.sched_getscheduler(pid) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    await pool.close()


async def test_a_killed_worker_costs_its_own_job_only(
    pool: ProcessExecutor, make_job: MakeJob, fifo: Path, tmp_path: Path
) -> None:
    never = tmp_path / "never"
    os.mkfifo(never)
    innocent = Started(pool, make_job(["rows"], ["wait", str(fifo)]))
    await innocent.has_read()
    (innocent_pid,) = pool.pids
    victim = Started(pool, make_job(["rows"], ["wait", str(never)]))
    await victim.has_read()
    queued = Started(pool, make_job())
    (victim_pid,) = set(pool.pids) - {innocent_pid}
    os.kill(victim_pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="killed by signal 9 before the training ended"):
        await victim.task
    await queued.task
    await asyncio.to_thread(fifo.write_bytes, b"")
    assert (await innocent.task).size > 0


async def test_a_worker_that_leaves_costs_its_own_job_only(pool: ProcessExecutor, make_job: MakeJob) -> None:
    with pytest.raises(WorkerDied, match="ended with status 3 before the training ended"):
        await pool.run(make_job(["leave", 3]), ignore)
    await pool.run(make_job(), ignore)


@pytest.mark.parametrize("noticed", [True, False])
async def test_an_idle_worker_that_dies_is_replaced_unseen(
    pool: ProcessExecutor, make_job: MakeJob, noticed: bool
) -> None:
    await pool.run(make_job(), ignore)
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    if noticed:
        await ended(pid)
    await pool.run(make_job(), ignore)
    assert pool.pids != [pid]


async def test_a_failure_becomes_a_sentence_and_the_worker_goes_on(
    pool: ProcessExecutor, make_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    fault = "raised LookupError, an internal error of recserver or a plug-in"
    await pool.run(make_job(), ignore)
    pids = pool.pids
    for step, kind, sentence in (
        (["refuse", "The source is away: wait."], SourceFailed, "The source is away: wait."),
        (["run_out_of_memory"], TrainingFailed, "The training ran out of memory."),
        (["crash", 10], TrainingFailed, f"The training {fault}: the server's log has the details."),
        (["crash", 5_000_000], TrainingFailed, f"The training {fault}: the server's log has the details."),
    ):
        with pytest.raises(TrainingFailed) as failure:
            await pool.run(make_job(step), ignore)
        assert (type(failure.value), str(failure.value)) == (kind, sentence)
        assert pool.pids == pids
    assert "LookupError: xxxxxxxxxx\n" in caplog.text
    await pool.run(make_job(), ignore)
    assert pool.pids == pids


async def test_what_a_library_prints_does_not_garble_the_answers(pool: ProcessExecutor, make_job: MakeJob) -> None:
    result = await pool.run(make_job(["write", '{"failed": "forged"}\n']), ignore)
    assert result.final_stats["total_interactions"] > 0


async def test_a_worker_is_given_limits_and_the_path_and_nothing_that_is_open(
    make_job: MakeJob, tmp_path: Path
) -> None:
    pool = ProcessExecutor(1, threads_each=3, priority="low")
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "lock").open("w") as lock:
        for one in (listener, lock):
            os.set_inheritable(one.fileno(), True)
        await pool.run(make_job(["report", str(tmp_path / "report")]), ignore)
        ours = {os.fstat(one.fileno()).st_ino for one in (listener, lock)}
    await pool.close()
    report = json.loads((tmp_path / "report").read_text())
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    assert [report["environment"][name] for name in limits] == ["3"] * 3
    assert not ours & set(report["inodes"])
    assert (str(Path.cwd()) in report["path"]) == (str(Path.cwd()) in sys.path)


async def test_a_worker_without_jobs_retires(make_job: MakeJob) -> None:
    pool = ProcessExecutor(1, priority="low", idle_seconds=0)
    await pool.run(make_job(), ignore)
    (pid,) = pool.pids
    await ended(pid)
    assert (await pool.run(make_job(), ignore)).size > 0
    await pool.close()


async def test_the_patience_with_an_idle_worker_begins_anew_with_every_job(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    call_later = loop.call_later

    def noting(delay: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        timer = call_later(delay, *rest, **more)
        if delay == 1234:
            timers.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", noting)
    pool = ProcessExecutor(1, priority="low", idle_seconds=1234)
    for _ in range(3):
        await pool.run(make_job(), ignore)
    assert [timer.cancelled() for timer in timers] == [True, True, False]
    await pool.close()
    assert all(timer.cancelled() for timer in timers)


async def test_closing_ends_every_worker(make_job: MakeJob, fifo: Path) -> None:
    pool = ProcessExecutor(2, priority="low")
    busy = Started(pool, make_job(["rows"], ["wait", str(fifo)]))
    await busy.has_read()
    await pool.run(make_job(), ignore)
    pids = pool.pids
    assert len(pids) == 2
    await pool.close()
    assert not any(lives(pid) for pid in pids)
    with pytest.raises(WorkerDied):
        await busy.task
