"""Tasks in a running server: when they run, what they skip, and what edits, jumps and restarts do to that."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from recserver import Settings
from recserver._internal.core.events import RunSkipped, RunStarted
from recserver.testing import few_interactions
from tests.helpers.workbench import Workbench

pytestmark = pytest.mark.slow


async def test_a_model_never_trained_is_trained_when_its_task_is_added(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    ended = await bench.finish()
    assert (ended.outcome, bench.elapsed()) == ("completed", 0)
    assert await bench.next_due() == 3600


async def test_a_model_that_has_a_version_waits_for_an_interval(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(30)
    await bench.add_task("another", interval=70)
    await bench.clock.settle()
    assert bench.trainings.started_count == 1
    assert await bench.next_due("another") == 40  # an interval after the model's training was completed


async def test_runs_begin_at_a_fixed_rate_however_long_they_take(bench: Workbench) -> None:
    await bench.add_task()
    for number in range(6):
        training = await bench.one_begun()
        assert bench.elapsed() == 100 * number
        await bench.clock.advance(13 * number)
        training.finish(few_interactions(users=2 + number))
        await bench.ended()
        await bench.clock.advance(100 - 13 * number)
    listed = await bench.task()
    assert (listed["runs"], listed["skipped"]) == (7, 0)


async def test_due_times_during_a_run_are_skipped_and_counted(bench: Workbench) -> None:
    await bench.add_task()
    training = await bench.one_begun()
    await bench.clock.advance(350)
    assert (await bench.task())["running"] is True
    training.finish()
    await bench.ended()
    listed = await bench.task()
    assert (listed["runs"], listed["skipped"], await bench.next_due()) == (1, 3, 50)
    await bench.clock.advance(50)
    await bench.one_begun()


@pytest.mark.parametrize("intervals", [1, 2, 10**6])
async def test_after_any_downtime_there_is_one_run_at_once(
    data_dir: Path, settings: Settings, intervals: int
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.trained()
        clock = bench.clock
    await clock.suspend(100 * intervals)
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        assert (await bench.finish(few_interactions(4))).outcome == "completed"
        assert (bench.trainings.started_count, bench.elapsed(), await bench.next_due()) == (1, 0, 100)


@pytest.mark.parametrize(("jump", "wait"), [(0, 60), (30, 30), (10**9, 0), (-30, 90), (-(10**9), 100)])
async def test_a_restart_believes_the_wall_clock_for_an_interval_at_most(
    data_dir: Path, settings: Settings, jump: float, wait: float
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.trained()
        clock = bench.clock
    await clock.advance(40)
    clock.jump(jump)
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        await clock.settle()
        assert bench.trainings.started_count == (wait == 0)
        await clock.advance(wait)
        assert bench.trainings.started_count == 1
        assert bench.trainings.running


async def test_jumps_of_the_wall_clock_neither_add_nor_lose_a_run(bench: Workbench) -> None:
    await bench.trained()
    for number, jump in enumerate((1, -1, 3600, -3600, 86400, -86400, 50 * 31_536_000, -50 * 31_536_000)):
        bench.clock.jump(jump)
        await bench.look()
        assert not bench.trainings.running
        await bench.clock.advance(100)
        await bench.finish(few_interactions(2 + number))
        assert bench.elapsed() == 100 * (number + 1)


async def test_a_failed_run_shows_why_and_the_old_version_serves(bench: Workbench) -> None:
    await bench.trained()
    answer = await bench.rec.recommend("u0", model_id="m")
    await bench.clock.advance(100)
    assert (await bench.fail()).outcome == "failed"
    info = await bench.rec.get_model_info("m")
    assert (info["status"], info["error"]) == ("failed", "The source is away.")
    assert info["failed_at"]
    assert (info["needs_training"], info["model_version"]) == (False, 1)
    listed = await bench.task()
    assert (listed["last_status"], listed["last_error"]) == ("failed", "The source is away.")
    after = await bench.rec.recommend("u0", model_id="m")
    assert after["predictions"] == answer["predictions"]
    assert (await bench.next_due()) == 100
    await bench.clock.advance(100)
    await bench.finish()
    info = await bench.rec.get_model_info("m")
    assert (info["status"], info["model_version"]) == ("completed", 2)
    assert not {"error", "failed_at"} & info.keys()


async def test_a_failed_first_run_waits_for_its_next_due_time(bench: Workbench) -> None:
    await bench.add_task()
    await bench.fail()
    await bench.look()
    await bench.rec.restart_scheduler()
    await bench.clock.advance(99)
    assert bench.trainings.started_count == 1
    await bench.clock.advance(1)
    assert bench.trainings.started_count == 2


async def test_unchanged_data_makes_no_new_version(bench: Workbench) -> None:
    await bench.trained()
    config = (await bench.rec.get_model_info("m"))["training_completed_at"]
    await bench.clock.advance(100)
    assert (await bench.finish()).outcome == "unchanged"
    info = await bench.rec.get_model_info("m")
    assert (info["status"], info["model_version"], info["training_completed_at"]) == ("completed", 1, config)
    assert (await bench.task())["last_status"] == "unchanged"
    await bench.clock.advance(100)
    assert (await bench.finish(few_interactions(5))).model_version == 2


async def test_a_failure_is_not_taken_for_unchanged_data(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(100)
    await bench.fail()
    await bench.clock.advance(100)
    assert (await bench.finish()).outcome == "completed"


async def test_two_tasks_never_train_one_model_at_once(bench: Workbench) -> None:
    await bench.add_task("one", interval=100)
    training = await bench.one_begun()
    await bench.add_task("two", interval=30)
    skipped = await bench.events.next(RunSkipped)
    assert (skipped.task_name, skipped.reason) == ("two", "Model 'm' is being trained by task 'one'.")
    await bench.clock.advance(65)
    assert (bench.trainings.started_count, (await bench.task("two"))["skipped"]) == (1, 3)
    training.finish()
    await bench.ended()
    await bench.clock.advance(25)
    assert bench.trainings.running[0].job.model_version == 2
    assert (await bench.task("two"))["running"] is True
    await bench.clock.advance(10)
    assert (bench.trainings.started_count, (await bench.task("one"))["skipped"]) == (2, 1)


async def test_two_models_are_trained_side_by_side(bench: Workbench) -> None:
    await bench.rec.create_model("n", algorithm="nmf")
    await bench.add_task("one")
    await bench.add_task("two", model_id="n")
    await bench.clock.settle()
    assert {training.job.model_id for training in bench.trainings.running} == {"m", "n"}


@pytest.mark.parametrize("by_file", [True, False], ids=["by file", "by HTTP verb"])
@pytest.mark.parametrize(("interval", "wait"), [(60, 20), (40.5, 0.5), (40, 0), (10, 0), (1000, 960)])
async def test_an_edited_interval_counts_from_the_last_due_time(
    bench: Workbench, interval: float, wait: float, by_file: bool
) -> None:
    await bench.trained()
    await bench.clock.advance(40)
    if by_file:
        await bench.write_task(interval=interval)
    else:
        answer = await bench.rec.update_task_interval("t", interval=interval)
        assert answer["interval"] == interval
        await bench.clock.settle()
    if wait:
        await bench.clock.advance(wait - 0.1)
        assert bench.trainings.started_count == 1
        await bench.clock.advance(0.1)
    assert bench.trainings.started_count == 2


async def test_an_edit_leaves_other_loops_alone(bench: Workbench) -> None:
    await bench.trained()
    await bench.rec.create_model("n", algorithm="nmf")
    await bench.add_task("other", model_id="n", interval=70)
    await bench.finish()
    await bench.clock.advance(40)
    await bench.write_task(interval=200)
    await bench.write_task("third", model_id="nothing", interval=1)
    assert (await bench.next_due(), await bench.next_due("other")) == (160, 30)


async def test_a_broken_file_keeps_the_last_good_definition(bench: Workbench) -> None:
    await bench.trained()
    path = bench.rec.data_dir / "tasks" / "t.json"
    good = path.read_text()
    for broken, said in (
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        (json.dumps(json.loads(good) | {"interval": 0}), "interval: must be from 1"),
        (good.replace("100", "NaN"), "NaN is not a number"),
        (good.replace("100", "1e999"), "1e999 is not a number"),
        (json.dumps(json.loads(good) | {"model_id": None}), "model_id: is missing"),
    ):
        path.write_text(broken)
        await bench.look()
        listed = await bench.task()
        assert said in listed["last_error"]
        assert listed["next_run_at"]
        skipped = (await bench.rec.restart_scheduler())["tasks_skipped"]
        assert said in skipped["t"]
    await bench.clock.advance(100)
    await bench.finish(few_interactions(5))
    path.write_text(good)
    await bench.look()
    assert (await bench.task())["last_error"] is None


async def test_a_task_whose_file_never_was_usable_is_listed_and_begins_when_it_is(bench: Workbench) -> None:
    await bench.write_task(interval="3600")
    assert "interval" in (await bench.task())["last_error"]
    assert (await bench.task())["next_run_at"] is None
    await bench.write_task(interval=3600)
    await bench.finish()
    assert await bench.next_due() == 3600


async def test_a_missing_model_or_chef_skips_the_run_until_it_appears(bench: Workbench) -> None:
    await bench.write_task(model_id="n", interactions_data_chef_id="d")
    for said, create in (
        ("Model 'n' does not exist", lambda: bench.rec.create_model("n", algorithm="nmf")),
        ("Data chef 'd' does not exist", lambda: bench.rec.create_data_chef_from_csv("d", file_path="rows.csv")),
    ):
        listed = await bench.task()
        assert (listed["last_status"], listed["running"]) == ("skipped", False)
        assert said in listed["last_error"]
        assert said in (await bench.rec.restart_scheduler())["tasks_skipped"]["t"]
        assert bench.trainings.started_count == 0
        await create()
        await bench.clock.settle()
    await bench.finish()
    listed = await bench.task()
    assert (listed["last_status"], listed["last_error"], listed["runs"]) == ("completed", None, 1)
    assert listed["skipped"] == 2
    assert await bench.next_due() == 100


async def test_due_times_skipped_for_the_same_reason_are_logged_once(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.trained()
    for _ in range(2):
        await bench.rec.delete_data_chef("c")
        caplog.clear()
        await bench.clock.advance(510)
        told = [one.getMessage() for one in caplog.records if "run skipped" in one.getMessage()]
        assert len(told) == 1
        assert "Data chef 'c' does not exist" in told[0]
        await bench.rec.create_data_chef_from_csv("c", file_path="rows.csv")
        await bench.clock.settle()
        await bench.finish(few_interactions(9))
    assert (await bench.task())["skipped"] == 10


async def test_a_chef_that_was_away_at_a_due_time_is_made_up_for(bench: Workbench) -> None:
    await bench.trained()
    await bench.rec.delete_data_chef("c")
    await bench.clock.advance(150)
    assert (bench.trainings.started_count, (await bench.task())["skipped"]) == (1, 1)
    await bench.rec.create_data_chef_from_csv("c", file_path="rows.csv")
    await bench.clock.settle()
    assert bench.trainings.started_count == 2


async def test_a_task_given_another_model_trains_that_one(bench: Workbench) -> None:
    await bench.trained()
    await bench.rec.create_model("n", algorithm="nmf")
    await bench.write_task(model_id="n")
    assert (await bench.one_begun()).job.model_id == "n"


async def test_a_task_removed_and_added_again_begins_anew(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(30)
    await bench.rec.remove_model_task("t")
    assert await bench.rec.list_tasks() == {}
    await bench.clock.advance(500)
    assert bench.trainings.started_count == 1
    await bench.add_task()
    await bench.clock.settle()
    assert bench.trainings.started_count == 2
    assert ((await bench.task())["runs"], (await bench.task())["skipped"]) == (1, 0)


async def test_many_adds_at_once_leave_one_loop_each(bench: Workbench) -> None:
    models = [f"m{number}" for number in range(10)]
    for model in models:
        await bench.rec.create_model(model, algorithm="nmf")
    with bench.rec.events.listen() as events:
        await asyncio.gather(*(bench.add_task(f"t{model}", model_id=model) for model in models))
        started = [await events.next(RunStarted) for _ in models]
    await bench.clock.settle()
    assert sorted(event.model_id for event in started) == sorted(models)
    assert bench.trainings.started_count == len(models)
