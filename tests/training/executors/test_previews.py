"""Previews in worker processes: beside the trainings, and never for long."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed
from recserver._internal.training.executors.process_pool import MAX_PREVIEWS, ProcessExecutor
from recserver._internal.training.jobs import PreviewJob
from tests.helpers.pids import ended, lives
from tests.helpers.worker_jobs import MakeJob, Started

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="session")]

MakeLook = Callable[..., PreviewJob]


@pytest.fixture
def make_look(tmp_path: Path) -> MakeLook:
    """Builds the job of a preview whose chef takes the given steps."""

    def make(*steps: list[Any]) -> PreviewJob:
        entry = {"type": "steps", "steps": [*steps, ["rows"]]}
        return PreviewJob(data_chef=entry, policy=SourcePolicy(data_dir=tmp_path))

    return make


@pytest.fixture
def hasty(pool: ProcessExecutor, monkeypatch: pytest.MonkeyPatch) -> ProcessExecutor:
    """A pool in which a preview may take half a second."""
    monkeypatch.setattr(pool, "_preview_seconds", 0.5)
    return pool


async def test_a_preview_and_a_training_may_use_the_same_worker(
    pool: ProcessExecutor, make_job: MakeJob, make_look: MakeLook
) -> None:
    seen = await pool.preview(make_look())
    pids = pool.pids
    assert (len(seen.raw), seen.columns) == (20, ["user_id", "item_id", "rating"])
    assert (await pool.run(make_job(), lambda _: None)).data_report is not None
    assert await pool.preview(make_look()) == seen
    assert pool.pids == pids and len(pids) == 1


async def test_a_preview_does_not_wait_for_trainings(
    pool: ProcessExecutor, make_job: MakeJob, make_look: MakeLook, fifo: Path
) -> None:
    trainings = [Started(pool, make_job(["rows"], ["wait", str(fifo)])) for _ in range(3)]
    for one in trainings[:2]:
        await one.has_read()
    assert (await pool.preview(make_look())).rows_read > 0
    assert not any(one.task.done() for one in trainings)
    for one in trainings:
        one.task.cancel()
    await asyncio.gather(*(one.task for one in trainings), return_exceptions=True)


@pytest.mark.parametrize("step", [["wait", "FIFO"], ["hold"]], ids=["waiting", "holding the interpreter's lock"])
async def test_a_preview_that_takes_too_long_is_killed(
    hasty: ProcessExecutor, make_look: MakeLook, fifo: Path, step: list[Any]
) -> None:
    with pytest.raises(SourceFailed) as failure:
        await hasty.preview(make_look([str(fifo) if part == "FIFO" else part for part in step]))
    assert str(failure.value) == (
        "The source gave too few rows within 0.5 seconds, so the preview was ended: check that it answers, "
        "or request fewer rows."
    )
    assert hasty.pids == []


async def test_a_cancelled_preview_is_gone_when_the_call_returns(
    pool: ProcessExecutor, make_look: MakeLook, fifo: Path
) -> None:
    await pool.preview(make_look())
    (pid,) = pool.pids
    task = asyncio.create_task(pool.preview(make_look(["wait", str(fifo)])))
    opened = await asyncio.to_thread(fifo.open, "wb")  # it is reading
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    opened.close()
    assert not lives(pid)
    assert pool.pids == []


async def test_who_finds_all_places_taken_is_told_so(
    hasty: ProcessExecutor, make_look: MakeLook, fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hasty, "_preview_seconds", 100.0)
    blocked = [asyncio.create_task(hasty.preview(make_look(["wait", str(fifo)]))) for _ in range(MAX_PREVIEWS)]
    opened = await asyncio.to_thread(fifo.open, "wb")  # they have their places
    monkeypatch.setattr(hasty, "_preview_seconds", 0.1)
    with pytest.raises(SourceFailed) as failure:
        await hasty.preview(make_look())
    assert str(failure.value) == (
        "2 other previews are under way and did not end within 0.1 seconds: try again later."
    )
    for one in blocked:
        one.cancel()
    await asyncio.gather(*blocked, return_exceptions=True)
    opened.close()
    monkeypatch.setattr(hasty, "_preview_seconds", 100.0)
    assert (await hasty.preview(make_look())).rows_read > 0


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (["refuse", "The source is away: wait."], "The source is away: wait."),
        (["run_out_of_memory"], "The preview ran out of memory."),
        (["leave", 3], "The worker process ended with status 3 before the preview ended."),
        (
            ["crash", 10],
            "The preview raised LookupError, an internal error of recserver or a plug-in: "
            "the server's log has the details.",
        ),
    ],
)
async def test_every_failure_is_one_of_the_source(
    pool: ProcessExecutor, make_look: MakeLook, step: list[Any], sentence: str
) -> None:
    await pool.preview(make_look())
    with pytest.raises(SourceFailed) as failure:
        await pool.preview(make_look(step))
    assert (type(failure.value), str(failure.value)) == (SourceFailed, sentence)
    assert (await pool.preview(make_look())).rows_read > 0


async def test_a_preview_that_kills_its_worker_is_not_tried_in_another(
    pool: ProcessExecutor, make_look: MakeLook
) -> None:
    await asyncio.gather(pool.preview(make_look()), pool.preview(make_look()))
    assert len(pool.pids) == 2
    with pytest.raises(SourceFailed):
        await pool.preview(make_look(["leave", 9]))
    assert len(pool.pids) == 1


async def test_an_idle_worker_that_died_is_replaced_for_a_preview(
    pool: ProcessExecutor, make_look: MakeLook
) -> None:
    await pool.preview(make_look())
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    assert (await pool.preview(make_look())).rows_read > 0


async def test_closing_ends_previews(make_look: MakeLook, fifo: Path) -> None:
    pool = ProcessExecutor(1, priority="low")
    task = asyncio.create_task(pool.preview(make_look(["wait", str(fifo)])))
    opened = await asyncio.to_thread(fifo.open, "wb")
    pids = pool.pids
    await pool.close()
    opened.close()
    assert not any(lives(pid) for pid in pids)
    with pytest.raises(SourceFailed, match="killed by signal 9 before the preview ended"):
        await task
