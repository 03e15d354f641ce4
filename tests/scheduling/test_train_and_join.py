"""``train``: a run begun or joined, and waited for by as many as like to."""

from __future__ import annotations

import asyncio

import pytest

from recserver._internal.core.errors import Draining, ModelBusy, ModelNotFound, TaskNotFound
from recserver.testing._scripted_executor import few_interactions
from tests.helpers.workbench import Workbench


async def test_train_returns_the_run_as_get_run_tells_of_it(bench: Workbench) -> None:
    await bench.trained()
    trained = asyncio.create_task(bench.rec.train("t"))
    (await bench.trainings.next()).finish(few_interactions(5))
    run = await trained
    assert (run["outcome"], run["model_version"], run["trigger"]) == ("completed", 2, "run_task")
    assert run == await bench.rec.get_run(run["run_id"])
    assert (await bench.rec.get_model_info("m"))["status"] == "completed"


@pytest.mark.parametrize("how", ["failed", "stopped", "removed", "deleted"])
async def test_a_run_that_does_not_end_well_raises_nothing(bench: Workbench, how: str) -> None:
    await bench.trained()
    trained = asyncio.create_task(bench.rec.train("t"))
    training = await bench.trainings.next()
    match how:
        case "failed":
            training.fail()
        case "stopped":
            await bench.rec.stop_training(task_name="t")
        case "removed":
            await bench.rec.remove_model_task("t")
        case "deleted":
            await bench.rec.delete_model("m", force=True)
    run = await trained
    assert run["outcome"] == ("failed" if how == "failed" else "stopped")
    assert run["error"] == ("The source is unavailable." if how == "failed" else None)
    assert run == await bench.rec.get_run(run["run_id"])


async def test_all_who_ask_wait_for_one_run(bench: Workbench) -> None:
    await bench.trained()
    asked = [asyncio.create_task(bench.rec.train("t")) for _ in range(5)]
    await bench.clock.settle()
    (await bench.trainings.next()).finish(few_interactions(5))
    runs = await asyncio.gather(*asked)
    assert len({run["run_id"] for run in runs}) == 1
    assert bench.trainings.started_count == 2


async def test_a_run_of_the_schedule_is_joined(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(100)
    asked = asyncio.create_task(bench.rec.train("t"))
    await bench.clock.settle()
    assert bench.trainings.started_count == 2
    await bench.finish()
    assert ((await asked)["outcome"], (await asked)["trigger"]) == ("unchanged", "schedule")


async def test_the_training_goes_on_without_those_who_asked_for_it(bench: Workbench) -> None:
    await bench.trained()
    first, second = (asyncio.create_task(bench.rec.train("t")) for _ in range(2))
    training = await bench.trainings.next()
    await bench.clock.settle()
    first.cancel()
    await asyncio.wait([first])
    await bench.clock.settle()
    assert not training.cancelled and not second.done()
    training.finish(few_interactions(5))
    assert (await second)["outcome"] == "completed"


async def test_other_changes_need_not_wait_for_the_run(bench: Workbench) -> None:
    await bench.trained()
    asked = asyncio.create_task(bench.rec.train("t"))
    await bench.clock.settle()
    await bench.rec.create_model("n", algorithm="nmf")
    assert not asked.done()
    await bench.finish(few_interactions(5))
    await asked


async def test_the_run_of_another_task_is_not_joined(bench: Workbench) -> None:
    await bench.trained()
    await bench.rec.add_model_task("other", model_id="m", data_chef_id="c", interval=100, enabled=False)
    asked = asyncio.create_task(bench.rec.train("other"))
    await bench.clock.settle()
    with pytest.raises(ModelBusy, match=r"^Model 'm' is being trained by task 'other'\. Wait for that to end\.$"):
        await bench.rec.train("t")
    await bench.finish(few_interactions(5))
    await asked


async def test_a_run_that_heeds_the_gate_is_not_joined_by_who_would_pass_it(bench: Workbench) -> None:
    await bench.trained()
    asked = asyncio.create_task(bench.rec.train("t"))
    await bench.clock.settle()
    with pytest.raises(ModelBusy):
        await bench.rec.train("t", force=True)
    await bench.finish(few_interactions(5))
    await asked
    forced = [asyncio.create_task(bench.rec.train("t", force=force)) for force in (True, False)]
    await bench.clock.settle()
    await bench.finish(few_interactions(6))
    assert len({run["run_id"] for run in await asyncio.gather(*forced)}) == 1


async def test_what_is_missing_is_named(bench: Workbench) -> None:
    with pytest.raises(TaskNotFound):
        await bench.rec.train("t")
    await bench.trained()
    await bench.rec.delete_model("m", force=True)
    with pytest.raises(ModelNotFound):
        await bench.rec.train("t")


async def test_who_waits_while_the_server_closes_is_told_of_the_stop(bench: Workbench) -> None:
    await bench.trained()
    asked = asyncio.create_task(bench.rec.train("t"))
    await bench.clock.settle()
    await bench.rec.__aexit__(None, None, None)
    assert (await asked)["outcome"] == "stopped"
    with pytest.raises(Draining):
        await bench.rec.train("t")
