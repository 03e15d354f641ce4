"""Rare orders of events in which something once went wrong."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from recserver import Settings
from recserver._internal.core.errors import ModelBusy
from recserver._internal.scheduling.task_state import TaskStateStore
from recserver._internal.storage import atomic_files as files
from tests.helpers.workbench import Workbench

pytestmark = pytest.mark.slow


async def kill(stack: AsyncExitStack, data_dir: Path) -> None:
    """Close a server, and leave its files as they were before that."""
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    await stack.aclose()
    for path in [path for path in data_dir.rglob("*") if path.is_file()]:
        if path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)


@pytest.mark.parametrize("first", ["pause_task", "stop_scheduler"])
async def test_a_task_without_a_loop_that_is_removed_by_its_file_is_gone_all_the_same(
    bench: Workbench, first: str
) -> None:
    await bench.add_task()
    training = await bench.one_begun()
    if first == "pause_task":
        await bench.rec.pause_task("t")
    else:
        await bench.rec.stop_scheduler(cancel_running=False)
    assert not training.cancelled
    (bench.rec.data_dir / "tasks" / "t.json").unlink()
    await bench.look()
    assert training.cancelled
    assert (await bench.rec.get_model_info("m"))["status"] == "stopped"
    await bench.write_task(enabled=False)
    task = await bench.task()
    assert (task["runs"], task["last_status"]) == (0, None)


@pytest.mark.parametrize("by_hand", [True, False])
async def test_a_task_given_another_model_while_paused_does_not_run_twice_at_once(
    bench: Workbench, by_hand: bool
) -> None:
    await bench.rec.create_model("n", algorithm="nmf")
    await bench.add_task()
    training = await bench.one_begun()
    await bench.rec.pause_task("t")
    await bench.write_task(model_id="n", enabled=False)
    if by_hand:
        with pytest.raises(ModelBusy, match="Model 'm' is being trained by task 't'"):
            await bench.rec.run_task("t")
    await bench.rec.resume_task("t")
    await bench.clock.settle()
    assert [one.job.model_id for one in bench.trainings.running] == ["m"]
    training.finish()
    await bench.ended()
    await bench.clock.advance(100)
    assert [one.job.model_id for one in bench.trainings.running] == ["n"]


async def test_a_skipped_due_time_does_not_hide_that_the_task_is_running(
    data_dir: Path, settings: Settings
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.add_task()
        await bench.one_begun()
        await bench.rec.pause_task("t")
        await bench.rec.resume_task("t")
        await bench.clock.settle()
        task = await bench.task()
        assert (task["running"], task["last_status"], task["skipped"]) == (True, "training", 1)
        clock = bench.clock
        await kill(stack, data_dir)
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        assert (await bench.task())["interrupted"] == 1


@pytest.mark.parametrize("rhythm", [{"interval": 100}, {"interval": 10}, {"schedule": "0 0 * * *"}])
async def test_a_task_given_another_model_and_rhythm_runs_once(bench: Workbench, rhythm: dict[str, Any]) -> None:
    await bench.rec.create_model("n", algorithm="nmf")
    await bench.add_task()
    await bench.one_begun()
    await bench.clock.advance(50)
    await bench.write_task(model_id="n", **rhythm)
    assert [one.job.model_id for one in bench.trainings.running] == ["n"]
    await bench.rec.stop_training(model_id="n")
    await bench.clock.advance(5)
    assert bench.trainings.running == []


@pytest.mark.parametrize("jump", [-86_400, 0, 86_400])
async def test_a_run_that_a_crash_cut_off_is_closed_whatever_the_clock_shows_then(
    data_dir: Path, settings: Settings, jump: float
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.trained()
        await bench.rec.run_task("t")
        await bench.one_begun()
        await bench.rec.list_runs()
        clock = bench.clock
        await kill(stack, data_dir)
    clock.jump(jump)
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        await clock.settle()
        left = [run for run in (await bench.rec.list_runs())["data"] if run["outcome"] == "running"]
        assert [run["run_id"] for run in left] == [
            run.request.run_id for run in bench.rec._services.trainer.runs.values()
        ]


async def test_a_task_whose_file_was_away_at_a_restart_is_not_shown_as_training(
    data_dir: Path, settings: Settings
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.trained()
        await bench.rec.run_task("t")
        await bench.one_begun()
        clock = bench.clock
        await kill(stack, data_dir)
    path = data_dir / "tasks" / "t.json"
    content = path.read_text()
    path.unlink()
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        path.write_text(json.dumps(json.loads(content) | {"enabled": False}))
        await bench.look()
        task = await bench.task()
        assert (task["last_status"], task["running"], task["interrupted"]) == ("failed", False, 1)


async def test_the_records_of_very_many_tasks_are_read_again(tmp_path: Path) -> None:
    content = {f"t{number}": {"runs": number, "last_error": "x" * 2000} for number in range(3000)}
    (tmp_path / "journal.json").write_text(json.dumps(content))
    journal = TaskStateStore(tmp_path / "journal.json")
    await journal.open()
    await journal.update("t7", runs=8)
    again = TaskStateStore(tmp_path / "journal.json")
    await again.open()
    assert (len(again.names), again.get("t7").runs, again.get("t2999").runs) == (3000, 8, 2999)


async def test_records_that_change_together_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, writes, write_whole = TaskStateStore(tmp_path / "journal.json"), 0, files.write_atomic

    def counting(path: Path, content: bytes) -> None:
        nonlocal writes
        writes += 1
        write_whole(path, content)

    monkeypatch.setattr(files, "write_atomic", counting)
    await journal.open()

    async def change(number: int) -> None:
        await journal.update(f"t{number}", runs=number)
        # What an update has returned from is on the disk.
        written = json.loads((tmp_path / "journal.json").read_text())
        assert written[f"t{number}"]["runs"] == number

    await asyncio.gather(*(change(number) for number in range(100)))
    assert writes == 2
    await journal.update("t1", runs=7)
    assert writes == 3
