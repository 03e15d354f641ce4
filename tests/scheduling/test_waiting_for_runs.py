"""``get_run`` with ``wait``: the end of a run is awaited, without polling and without leaving anything behind."""

from __future__ import annotations

import asyncio

import pytest

from recserver import InvalidInput, RunEnded, RunNotFound, RunRecord
from recserver.testing import few_interactions
from tests.helpers.workbench import Workbench


async def waiting(bench: Workbench, seconds: float) -> tuple[str, asyncio.Task[RunRecord]]:
    """A run that is under way, and a call that waits for its end."""
    await bench.trained()
    run_id = (await bench.rec.run_task("t")).run_id
    call = asyncio.create_task(bench.rec.get_run(run_id, wait=seconds))
    await bench.clock.settle()
    assert not call.done()
    return run_id, call


async def test_the_run_is_returned_when_it_has_ended(bench: Workbench) -> None:
    run_id, call = await waiting(bench, 3600)
    others = [asyncio.create_task(bench.rec.get_run(run_id, wait=60)) for _ in range(5)]
    await bench.clock.settle()
    await bench.finish()
    runs = await asyncio.gather(call, *others)
    assert {run.outcome for run in runs} == {"completed"} and runs[0].model_version == 2


async def test_an_active_run_is_returned_after_the_time(bench: Workbench) -> None:
    _, call = await waiting(bench, 30)
    await bench.clock.advance(29)
    assert not call.done()
    await bench.clock.advance(1)
    assert (await call).outcome == "running"
    await bench.fail()


async def test_a_run_that_has_ended_is_returned_at_once(bench: Workbench) -> None:
    run_id, call = await waiting(bench, 3600)
    await bench.fail()
    await call
    assert (await bench.rec.get_run(run_id, wait=3600)).outcome == "failed"
    with pytest.raises(RunNotFound):
        await bench.rec.get_run("none", wait=3600)


async def test_closing_the_server_ends_the_wait(bench: Workbench) -> None:
    _, call = await waiting(bench, 3600)
    await bench.rec.close()
    assert (await call).outcome == "stopped"


@pytest.mark.parametrize("wait", [-1, 3601, "soon", "-1"])
async def test_the_time_has_limits(bench: Workbench, wait: float) -> None:
    with pytest.raises(InvalidInput, match="wait: must"):
        await bench.rec.get_run("none", wait=wait)


async def test_warnings_of_the_last_completed_run_are_listed(bench: Workbench) -> None:
    await bench.trained()
    assert (await bench.rec.list_tasks())["t"].last_warnings == []
    with bench.rec.events.listen() as events:
        await bench.rec.run_task("t")
        (await bench.trainings.next()).finish(few_interactions(5), warnings=["The data is thin."])
        await events.next(RunEnded)
    assert (await bench.rec.list_tasks())["t"].last_warnings == ["The data is thin."]
    await bench.rec.run_task("t")
    await bench.fail()
    assert (await bench.rec.list_tasks())["t"].last_warnings == ["The data is thin."]


async def test_waits_leave_nothing_behind(bench: Workbench) -> None:
    run_id, call = await waiting(bench, 30)
    (run,) = bench.rec._services.trainer.runs.values()
    callbacks = len(run.result._callbacks or ())
    await bench.clock.advance(30)
    await call
    assert len(run.result._callbacks or ()) == callbacks - 1 and not bench.rec._waits
    call = asyncio.create_task(bench.rec.get_run(run_id, wait=30))
    await bench.clock.settle()
    call.cancel()
    await asyncio.wait([call])
    assert len(run.result._callbacks or ()) == callbacks - 1 and not bench.rec._waits


async def test_a_host_that_shuts_down_does_not_wait(bench: Workbench) -> None:
    _, call = await waiting(bench, 3600)
    app = bench.rec.web_app()
    app.freeze()
    await app.shutdown()
    assert (await call).outcome == "running"
