"""Runs asked for by hand, tasks that are paused, and what is told of runs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from recserver import Settings
from recserver._internal.core.errors import (
    DataChefNotFound,
    InvalidInput,
    ModelBusy,
    ModelNotFound,
    RunNotFound,
    SourceFailed,
    TaskNotFound,
)
from recserver.testing import few_interactions
from tests.helpers.workbench import Workbench


async def test_a_task_is_run_now_and_its_grid_stays(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(30)
    answer = await bench.rec.run_task("t")
    (await bench.one_begun()).finish(few_interactions(5))
    ended = await bench.ended()
    assert (answer["task_name"], answer["run_id"]) == ("t", ended.run_id)
    assert ended.model_version == 2
    assert await bench.next_due() == 70


async def test_a_run_by_hand_always_fits(bench: Workbench) -> None:
    await bench.trained()
    await bench.rec.run_task("t")
    training = await bench.one_begun()
    assert training.job.previous_digest is None
    training.finish()
    assert (await bench.ended()).outcome == "completed"


async def test_a_run_by_hand_works_while_the_scheduler_is_stopped_or_the_task_paused(bench: Workbench) -> None:
    await bench.trained()
    await bench.rec.stop_scheduler()
    await bench.rec.pause_task("t")
    await bench.rec.run_task("t")
    await bench.finish(few_interactions(5))
    assert (await bench.rec.get_model_info("m"))["model_version"] == 2
    assert (await bench.rec.get_scheduler_status())["data"]["is_running"] is False


async def test_a_run_by_hand_needs_all_that_a_run_needs(bench: Workbench) -> None:
    await bench.add_task()
    await bench.one_begun()
    with pytest.raises(ModelBusy, match="being trained by task 't'"):
        await bench.rec.run_task("t")
    with pytest.raises(TaskNotFound):
        await bench.rec.run_task("nope")
    await bench.rec.stop_scheduler()
    await bench.rec.delete_data_chef("c")
    with pytest.raises(DataChefNotFound):
        await bench.rec.run_task("t")
    await bench.rec.delete_model("m", force=True)
    with pytest.raises(ModelNotFound):
        await bench.rec.run_task("t")
    await bench.write_task(interval="soon")
    with pytest.raises(InvalidInput, match="cannot be scheduled"):
        await bench.rec.run_task("t")


async def test_a_due_time_during_a_run_by_hand_is_skipped(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(90)
    await bench.rec.run_task("t")
    training = await bench.one_begun()
    await bench.clock.advance(20)
    assert ((await bench.task())["skipped"], bench.trainings.started_count) == (1, 2)
    training.finish()
    await bench.ended()
    await bench.clock.advance(90)
    assert bench.trainings.started_count == 3


async def test_stopping_a_training(bench: Workbench) -> None:
    await bench.trained()
    before = {path.name: path.read_bytes() for path in (bench.rec.data_dir / "models").glob("*.pkl")}
    for given in ({"model_id": "m"}, {"task_name": "t"}):
        await bench.rec.run_task("t")
        training = await bench.one_begun()
        answer = await bench.rec.stop_training(**given)
        assert (answer["stopped_models"], training.cancelled) == (["m"], True)
        assert (await bench.rec.get_model_info("m"))["status"] == "stopped"
        await bench.ended()
    assert (await bench.rec.stop_training(model_id="m"))["stopped_models"] == []
    assert {path.name: path.read_bytes() for path in (bench.rec.data_dir / "models").glob("*.pkl")} == before


async def test_stopping_names_what_is_not_there(bench: Workbench) -> None:
    with pytest.raises(ModelNotFound):
        await bench.rec.stop_training(model_id="nope")
    with pytest.raises(TaskNotFound):
        await bench.rec.stop_training(task_name="nope")
    for wrong in ({}, {"model_id": "m", "task_name": "t"}):
        with pytest.raises(InvalidInput, match="either model_id or task_name"):
            await bench.rec.stop_training(**wrong)


@pytest.mark.parametrize("by_file", [True, False], ids=["by file", "by HTTP verb"])
async def test_a_paused_task_runs_no_more_until_it_is_resumed(bench: Workbench, by_file: bool) -> None:
    async def enable(enabled: bool) -> None:
        if by_file:
            await bench.write_task(enabled=enabled)
        elif enabled:
            assert (await bench.rec.resume_task("t"))["enabled"] is True
        else:
            assert (await bench.rec.pause_task("t"))["enabled"] is False

    await bench.trained()
    await enable(False)
    await bench.clock.advance(1000)
    task = await bench.task()
    assert (task["enabled"], task["next_run_at"], bench.trainings.started_count) == (False, None, 1)
    assert (await bench.rec.restart_scheduler())["tasks_skipped"]["t"].startswith("The task is paused")
    await bench.clock.advance(1000)
    assert bench.trainings.started_count == 1
    await enable(True)
    await bench.clock.settle()
    assert bench.trainings.started_count == 2  # what was missed is made up for by one run
    assert await bench.next_due() == 100


async def test_pausing_leaves_a_run_under_way_alone(bench: Workbench) -> None:
    await bench.add_task()
    training = await bench.one_begun()
    await bench.rec.pause_task("t")
    training.finish()
    assert (await bench.ended()).outcome == "completed"
    assert (await bench.task())["last_status"] == "completed"


async def test_every_run_is_remembered(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(100)
    await bench.finish()
    await bench.clock.advance(100)
    await bench.fail()
    await bench.rec.run_task("t")
    runs = (await bench.rec.list_runs())["data"]
    assert [(run["outcome"], run["trigger"]) for run in runs] == [
        ("running", "run_task"), ("failed", "schedule"), ("unchanged", "schedule"), ("completed", "schedule"),
    ]  # fmt: skip
    assert runs[1]["error"] == "The source is away."
    assert runs[3]["model_version"] == 1
    assert runs[3]["ended_at"] == runs[3]["started_at"] == "2026-01-02T03:04:05.000Z"
    (failed,) = (await bench.rec.list_runs(outcome="failed"))["data"]
    assert failed == runs[1]
    assert (await bench.rec.list_runs(task_name="other"))["data"] == []
    assert len((await bench.rec.list_runs(model_id="m", limit=3))["data"]) == 3
    older = (await bench.rec.list_runs(before=runs[1]["run_id"]))["data"]
    assert [run["run_id"] for run in older] == [run["run_id"] for run in runs[2:]]
    one = await bench.rec.get_run(runs[3]["run_id"])
    assert set(one["stages"]) >= {"waiting", "fitting", "validating", "publishing"}
    assert one["metrics"]["n_components"] == 1
    assert (one["algorithm"], one["hyperparameters"]["n_components"]) == ("nmf", 128)
    assert one.summary() == runs[3]
    with pytest.raises(RunNotFound):
        await bench.rec.get_run("nope")
    with pytest.raises(InvalidInput):
        await bench.rec.list_runs(outcome="nope")


async def test_a_run_that_a_crash_cut_off_is_remembered_as_interrupted(data_dir: Path, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.trained()
        await bench.rec.run_task("t")
        await bench.one_begun()
        assert (await bench.rec.list_runs(limit=1))["data"][0]["outcome"] == "running"
        files = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
        clock = bench.clock
    for path, content in files.items():  # as a killed server would have left it
        path.write_bytes(content)
    for path in set(data_dir.rglob("history.db-*")) - files.keys():
        path.unlink()
    await clock.advance(50)
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        await bench.clock.settle()
        (run,) = (await bench.rec.list_runs(limit=1))["data"]
        assert (run["outcome"], run["ended_at"]) == ("failed", "2026-01-02T03:04:55.000Z")
        assert run["error"].startswith("interrupted")
        task = await bench.task()
        assert (task["last_status"], task["interrupted"], task["failures"]) == ("failed", 1, 1)
        info = await bench.rec.get_model_info("m")
        assert info["status"] == "failed" and info["error"].startswith("interrupted")


@pytest.mark.parametrize("damage", ["garbage", "missing", "folder", "other version"])
async def test_a_history_that_cannot_be_used_stops_nothing(
    data_dir: Path, settings: Settings, damage: str
) -> None:
    path = data_dir / "history.db"
    data_dir.mkdir()
    if damage == "garbage":
        path.write_bytes(b"this is no database" * 1000)
    elif damage == "folder":
        path.mkdir()
    elif damage == "other version":
        import sqlite3

        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.trained()
        if damage == "folder":
            with pytest.raises(Exception, match="cannot be read or written"):
                await bench.rec.list_runs()
        else:
            assert [run["outcome"] for run in (await bench.rec.list_runs())["data"]] == ["completed"]
            path.unlink()
            await bench.clock.advance(100)
            await bench.finish(few_interactions(5))
            assert len((await bench.rec.list_runs())["data"]) == 1
        assert (await bench.rec.recommend("u0", model_id="m"))["n_recommendations"] > 0
    assert len(list(data_dir.glob("history.db.broken-*"))) == (damage in ("garbage", "other version"))


async def test_the_history_forgets_in_time(data_dir: Path, settings: Settings) -> None:
    few = settings.model_copy(update={"history_runs": 3, "history_days": 1.0})
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, few)
        await bench.trained()
        for number in range(4):
            await bench.clock.advance(100)
            await bench.finish(few_interactions(2 + number))
        assert len((await bench.rec.list_runs())["data"]) == 3
        await bench.rec.pause_task("t")
        await bench.clock.advance(86_401)
        await bench.rec.run_task("t")
        await bench.finish()
        assert len((await bench.rec.list_runs())["data"]) == 3


async def test_how_far_a_training_is(bench: Workbench) -> None:
    assert (await bench.rec.get_training_status("m"))["data"]["status"] == "initializing"
    await bench.add_task()
    training = await bench.one_begun()
    training.progress("reading", 7)
    await bench.clock.advance(10)
    data = (await bench.rec.get_training_status("m"))["data"]
    assert set(data) >= {
        "status", "stage", "rows_read", "iteration", "iterations", "loss", "elapsed_seconds", "eta_seconds",
        "queue_position",
    }  # fmt: skip
    assert (data["status"], data["stage"], data["rows_read"]) == ("training", "reading", 7)
    assert (data["elapsed_seconds"], data["eta_seconds"], data["queue_position"]) == (10, None, None)
    training.finish()
    await bench.ended()
    await bench.clock.advance(90)
    await bench.one_begun()
    await bench.clock.advance(4)
    assert (await bench.rec.get_training_status("m"))["data"]["eta_seconds"] == 6
    with pytest.raises(ModelNotFound):
        await bench.rec.get_training_status("nope")


async def test_a_task_whose_source_failed_is_told_with_its_report(bench: Workbench) -> None:
    await bench.add_task()
    report = {"rows_read": 3, "rejected": {"user_id is empty": 3}}
    (await bench.one_begun()).fail(SourceFailed("None of the 3 rows is usable.", report))
    ended = await bench.ended()
    assert (await bench.rec.get_run(ended.run_id))["data_report"] == report


async def test_a_stop_does_not_make_unchanged_data_new(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(100)
    await bench.one_begun()
    await bench.rec.stop_training(task_name="t")
    await bench.ended()
    await bench.clock.advance(100)
    assert (await bench.finish()).outcome == "unchanged"
    info = await bench.rec.get_model_info("m")
    assert (info["status"], info["model_version"]) == ("stopped", 1)


async def test_runs_that_cannot_be_read_are_passed_over(bench: Workbench) -> None:
    import sqlite3

    await bench.trained()
    assert len((await bench.rec.list_runs())["data"]) == 1
    with sqlite3.connect(bench.rec.data_dir / "history.db") as database:
        database.execute("INSERT INTO runs VALUES ('2', 't', 'm', 'running', '2026', '{}')")
    database.close()
    assert len((await bench.rec.list_runs())["data"]) == 1
    with pytest.raises(RunNotFound):
        await bench.rec.get_run("2")


async def test_a_history_that_cannot_be_read_leaves_the_time_left_unknown(bench: Workbench) -> None:
    await bench.trained()
    await bench.rec.run_task("t")
    await bench.one_begun()
    for path in bench.rec.data_dir.glob("history.db*"):
        path.unlink()
    (bench.rec.data_dir / "history.db").mkdir()
    data = (await bench.rec.get_training_status("m"))["data"]
    assert (data["status"], data["eta_seconds"]) == ("training", None)
