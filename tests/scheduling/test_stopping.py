"""Stop means stopped: cancelling, restarting, removing and closing, one at a time and all at once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from recserver import Settings
from recserver._internal.core.errors import ModelBusy, ModelNotFound
from recserver._internal.core.events import RunEnded
from recserver._internal.scheduling.run_recorder import RunRecorder
from recserver._internal.storage import atomic_files as files
from recserver._internal.training.active_run import TrainingRequest
from recserver._internal.training.executors.protocol import OnProgress
from recserver._internal.training.jobs import TrainingJob, TrainingResult
from recserver._internal.training.task import TaskSpec
from recserver.testing import ScriptedExecutor, few_interactions
from tests.helpers.workbench import Workbench

pytestmark = pytest.mark.slow


async def remove_file(bench: Workbench) -> None:
    """Remove the task as a person with a shell would."""
    (bench.rec.data_dir / "tasks" / "t.json").unlink(missing_ok=True)
    await bench.look()


STOPS: dict[str, Callable[[Workbench], Awaitable[Any]]] = {
    "the scheduler is stopped": lambda bench: bench.rec.stop_scheduler(),
    "the task is removed": lambda bench: bench.rec.remove_model_task("t"),
    "the task's file is removed": remove_file,
    "all of it at once": lambda bench: asyncio.gather(
        bench.rec.stop_scheduler(), remove_file(bench), bench.rec.stop_scheduler()
    ),
}


def config(bench: Workbench) -> dict[str, Any]:
    """The model's config as it stands on disk."""
    content: dict[str, Any] = json.loads((bench.rec.data_dir / "models" / "m_config.json").read_text())
    return content


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20, 1000])
async def test_a_stopped_training_is_gone_and_recorded(
    bench: Workbench, stop: Callable[[Workbench], Awaitable[Any]], turns: int
) -> None:
    await bench.trained()
    trio = {path: path.read_bytes() for path in (bench.rec.data_dir / "models").glob("m[._][pm]*")}
    assert len(trio) == 2
    await bench.clock.suspend(99)
    advancing = asyncio.ensure_future(bench.clock.advance(1))
    for _ in range(turns):  # wherever the run is by then: not begun, about to begin, under way
        await asyncio.sleep(0)
    await stop(bench)
    assert not bench.rec._services.trainer.runs
    assert not bench.trainings.running
    await advancing
    await bench.clock.advance(1000)
    assert not bench.trainings.running
    assert bench.trainings.started_count <= 2
    assert config(bench)["status"] in ("completed", "stopped")
    if bench.trainings.started_count == 2:
        assert config(bench)["status"] == "stopped"
        assert config(bench)["stopped_at"]
        assert bench.rec._services.task_state.get("t").last_status in ("stopped", None)
    assert {path: path.read_bytes() for path in trio} == trio
    assert (await bench.rec.recommend("u0", model_id="m"))["model_version"] == 1


async def test_a_stop_says_which_models_it_stopped_and_twice_is_once(bench: Workbench) -> None:
    await bench.add_task()
    await bench.one_begun()
    answer = await bench.rec.stop_scheduler()
    assert (answer["is_running"], answer["stopped_models"]) == (False, ["m"])
    assert (await bench.rec.stop_scheduler())["stopped_models"] == []
    assert (await bench.rec.get_scheduler_status()).data.to_dict() == {"is_running": False, "status": "stopped"}
    assert (await bench.task())["next_run_at"] is None
    assert config(bench)["status"] == "stopped"


class Reluctant(ScriptedExecutor):
    """Takes its time to end a cancelled training, as killing a process does."""

    gone = False

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        try:
            return await super().run(job, on_progress)
        except asyncio.CancelledError:
            for _ in range(20):
                await asyncio.sleep(0)
            self.gone = True
            raise


async def test_many_stops_at_once_end_a_training_once_and_entirely(data_dir: Path, settings: Settings) -> None:
    trainings = Reluctant()
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, trainings=trainings)
        await bench.add_task()
        await bench.one_begun()
        stops = [asyncio.ensure_future(bench.rec.stop_scheduler())]
        for _ in range(20):
            await asyncio.sleep(0)
            stops.append(asyncio.ensure_future(bench.rec.stop_scheduler()))
        answers = await asyncio.gather(*stops)
        assert trainings.gone
        assert answers[0]["stopped_models"] == ["m"]
        assert config(bench)["status"] == (await bench.task())["last_status"] == "stopped"


async def test_a_training_stopped_before_its_first_step_never_begins(bench: Workbench) -> None:
    parts = bench.rec._services
    trainer = parts.trainer
    recorder = RunRecorder(
        task_state=parts.task_state, history=parts.history, clock=parts.clock, events=bench.rec.events
    )
    task = TaskSpec(task_name="t", model_id="m", interactions_data_chef_id="c", interval=60)
    order = TrainingRequest("1", task, await parts.models.read("m"), {"c": {"type": "csv"}})
    run = trainer.start(order, recorder.open(order, None))
    async with asyncio.timeout(20):
        assert await trainer.stop([run]) == ["m"]
    assert (run.log.record.outcome, bench.trainings.started_count) == ("stopped", 0)


async def test_a_stop_waits_for_those_that_end_in_time(bench: Workbench) -> None:
    await bench.add_task()
    training = await bench.one_begun()
    stop = asyncio.ensure_future(bench.rec.stop_scheduler(timeout=30))
    await bench.clock.settle()
    assert not stop.done()
    training.finish()
    assert (await stop)["stopped_models"] == []
    assert config(bench)["status"] == "completed"


async def test_a_stop_may_leave_trainings_alone(bench: Workbench) -> None:
    await bench.add_task()
    training = await bench.one_begun()
    assert (await bench.rec.stop_scheduler(cancel_running=False))["stopped_models"] == []
    assert (await bench.task())["running"] is True
    training.finish()
    assert (await bench.ended()).outcome == "completed"
    listed = await bench.task()
    assert (listed["last_status"], listed["running"], listed["next_run_at"]) == ("completed", False, None)
    await bench.clock.advance(1000)
    assert bench.trainings.started_count == 1


async def test_a_stop_that_comes_while_the_model_is_saved_lets_it_be_saved(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving, go_on, link = asyncio.Event(), threading.Event(), files.disk.link
    loop = asyncio.get_running_loop()

    def slowly(source: Path, path: Path) -> None:
        loop.call_soon_threadsafe(saving.set)
        go_on.wait()
        link(source, path)

    await bench.add_task()
    monkeypatch.setattr(files.disk, "link", slowly)
    (await bench.trainings.next()).finish()
    await saving.wait()
    stop = asyncio.ensure_future(bench.rec.stop_scheduler())
    for _ in range(100):
        await asyncio.sleep(0)
    go_on.set()
    assert (await stop)["stopped_models"] == []
    assert (await bench.ended()).outcome == "completed"
    assert config(bench)["status"] == (await bench.task())["last_status"] == "completed"


@pytest.mark.parametrize("how", ["finish", "fail"])
async def test_a_stop_that_comes_while_the_end_is_recorded_changes_nothing(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    journal = bench.rec._services.task_state
    recording, go_on, prepare = asyncio.Event(), asyncio.Event(), journal.prepare

    async def slowly(task_name: str, **changes: Any) -> None:
        if changes.get("last_status") in ("completed", "failed"):
            recording.set()
            await go_on.wait()
        await prepare(task_name, **changes)

    await bench.add_task()
    monkeypatch.setattr(journal, "prepare", slowly)
    getattr(await bench.trainings.next(), how)()
    await recording.wait()
    stop = asyncio.ensure_future(bench.rec.stop_scheduler())
    await bench.clock.settle()
    go_on.set()
    assert (await stop)["stopped_models"] == []
    assert (
        config(bench)["status"] == (await bench.task())["last_status"] == f"{how}ed".replace("finish", "complet")
    )


async def test_restarts_at_once_leave_one_loop_a_task_and_repeat_nothing(bench: Workbench) -> None:
    for model in ("n", "o"):
        await bench.rec.create_model(model, algorithm="nmf")
        await bench.add_task(model, model_id=model)
    await bench.trained()
    await bench.clock.settle()
    await bench.clock.advance(50)
    answers = await asyncio.gather(*(bench.rec.restart_scheduler(timeout=30) for _ in range(50)))
    assert [answer["tasks_scheduled"] for answer in answers] == [3] * 50
    assert all(answer["is_running"] and answer["tasks_skipped"] == {} for answer in answers)
    await bench.clock.settle()
    loops = [task for task in asyncio.all_tasks() if task.get_name().startswith("recserver: loop of task")]
    assert len(loops) == 3
    assert (bench.trainings.started_count, await bench.next_due()) == (3, 50)
    await bench.clock.advance(50)
    assert bench.trainings.started_count == 4


async def test_stops_and_restarts_in_any_order_end_in_what_was_asked_last(bench: Workbench) -> None:
    await bench.trained()
    for last in (bench.rec.stop_scheduler, bench.rec.restart_scheduler):
        both = [bench.rec.restart_scheduler, bench.rec.stop_scheduler] * 5
        await asyncio.gather(*(one() for one in both))
        await last()
    assert (await bench.rec.get_scheduler_status())["data"]["is_running"] is True
    assert await bench.next_due() == 100
    await bench.clock.advance(100)
    await bench.finish(few_interactions(5))
    assert bench.trainings.started_count == 2


async def test_restarting_often_starves_nobody(bench: Workbench) -> None:
    await bench.trained()
    for _ in range(4):
        await bench.clock.advance(30)
        await bench.rec.stop_scheduler()
        await bench.rec.restart_scheduler()
    assert bench.trainings.started_count == 2


async def test_a_stopped_scheduler_runs_nothing_until_it_is_started(bench: Workbench) -> None:
    await bench.trained()
    await bench.rec.stop_scheduler()
    await bench.rec.create_model("n", algorithm="nmf")
    added = await bench.rec.add_model_task("u", model_id="n", data_chef_id="c", interval=10)
    assert (added["scheduled"], added["next_run_at"]) == (False, None)
    await bench.write_task(interval=1)
    await bench.clock.advance(250)
    assert bench.trainings.started_count == 1
    await bench.rec.restart_scheduler()
    await bench.clock.settle()
    assert {training.job.model_id for training in bench.trainings.running} == {"m", "n"}


async def test_deleting_a_model_ends_its_training(bench: Workbench) -> None:
    await bench.add_task()
    training = await bench.one_begun()
    with pytest.raises(ModelBusy):
        await bench.rec.create_model("m", algorithm="nmf", overwrite=True)
    await bench.rec.delete_model("m", force=True)
    assert training.cancelled
    assert (await bench.ended()).outcome == "stopped"
    assert list((bench.rec.data_dir / "models").iterdir()) == []
    with pytest.raises(ModelNotFound):
        await bench.rec.recommend("u0", model_id="m")
    await bench.clock.advance(100)
    assert "does not exist" in (await bench.task())["last_error"]
    await bench.rec.create_model("m", algorithm="nmf")
    assert (await bench.finish()).model_version == 1


async def test_closing_the_server_stops_what_runs(data_dir: Path, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.add_task()
        training = await bench.one_begun()
    assert training.cancelled
    assert config(bench)["status"] == "stopped"
    journal = json.loads((data_dir / ".scheduler.json").read_text())
    assert journal["t"]["last_status"] == "stopped"
    names = [task.get_name() for task in asyncio.all_tasks()]
    assert not [name for name in names if name.startswith("recserver")]


async def test_what_is_told_of_an_ending_is_true_when_it_is_told(bench: Workbench) -> None:
    await bench.add_task()
    (await bench.trainings.next()).finish()
    await bench.events.next(RunEnded)
    assert config(bench)["status"] == "completed"
    assert (await bench.task())["running"] is False
    assert (await bench.task())["last_status"] == "completed"
