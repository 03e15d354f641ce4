"""Messages about tasks: whether they will run, and warnings about fields without effect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recserver import RecServer, Settings
from recserver._internal.server.service.tasks import INTERVAL_UNUSED, USER_FEATURES_UNREAD
from recserver.testing import ScriptedExecutor

RUNS = " and runs every 60 s."
PAUSED = ", but does not run while it is paused: POST /resume_task resumes it."
STOPPED = ", but does not run while the scheduler is stopped: POST /restart_scheduler starts it."
NO_MODEL = ", but cannot run: Model 'm' does not exist: create it, or remove this task."
NO_CHEF = ", but cannot run: Data chef 'c' does not exist: create it, or remove this task."


@pytest.fixture
async def rec(data_dir: Path, settings: Settings) -> AsyncIterator[RecServer]:
    """An open server with the model m, the chef c and the paused task t, whose first training never ends."""
    async with RecServer(data_dir, settings, executor=ScriptedExecutor()) as server:
        await server.create_model("m", algorithm="nmf")
        await server.create_data_chef_from_csv("c", file_path="rows.csv")
        await server.add_model_task("t", model_id="m", data_chef_id="c", interval=60, enabled=False)
        yield server


async def undo(rec: RecServer, what: str) -> None:
    """Take away something that the task needs."""
    if what == "scheduler":
        await rec.stop_scheduler()
    elif what == "model":
        await rec.delete_model("m", force=True)
    elif what == "data chef":
        await rec.delete_data_chef("c")


@pytest.mark.parametrize(
    ("missing", "ending"),
    [("nothing", RUNS), ("scheduler", STOPPED), ("model", NO_MODEL), ("data chef", NO_CHEF)],
)
async def test_a_run_is_announced_only_if_it_is_scheduled(rec: RecServer, missing: str, ending: str) -> None:
    await undo(rec, missing)
    response = await rec.update_task_interval("t", interval=61)
    assert (response["message"], response["next_run_at"]) == (f"Task t has a new interval{PAUSED}", None)
    assert (await rec.pause_task("t"))["message"] == "Task t is paused."
    response = await rec.resume_task("t")
    assert (response["message"], response["enabled"]) == (
        f"Task t is not paused{ending.replace('60', '61')}",
        True,
    )
    response = await rec.update_task_interval("t", interval=60)
    assert response["message"] == f"Task t has a new interval{ending}"
    assert (await rec.resume_task("t"))["message"] == f"Task t is not paused{ending}"


async def test_the_message_says_whether_an_added_task_runs(rec: RecServer) -> None:
    async def added(**more: bool) -> str:
        answer = await rec.add_model_task("a", model_id="m", data_chef_id="c", interval=60, overwrite=True, **more)
        return str(answer["message"])

    assert await added() == f"Task a was added{RUNS}"
    assert await added(enabled=False) == f"Task a was added{PAUSED}"
    await rec.stop_scheduler()
    assert await added() == f"Task a was added{STOPPED}"


async def test_restart_scheduler_lists_skipped_tasks(rec: RecServer) -> None:
    response = await rec.restart_scheduler()
    assert response["message"] == "The scheduler runs 0 tasks and skips 1: see tasks_skipped."
    await rec.resume_task("t")
    assert (await rec.restart_scheduler())["message"] == "The scheduler runs 1 task."


async def test_an_unused_interval_is_a_warning(rec: RecServer) -> None:
    both = await rec.add_model_task("both", model_id="m", data_chef_id="c", interval=60, schedule="0 3 * * *")
    assert (
        both["warnings"] == [INTERVAL_UNUSED]
        and both["message"] == "Task both was added and runs at 0 3 * * * (UTC)."
    )
    one = await rec.add_model_task("one", model_id="m", data_chef_id="c", schedule="0 3 * * *")
    all_of_it = await rec.add_model_task(
        "all", model_id="m", data_chef_id="c", interval=60, schedule="0 3 * * *", user_features_data_chef_id="c"
    )
    assert "warnings" not in one and all_of_it["warnings"] == [USER_FEATURES_UNREAD, INTERVAL_UNUSED]
    assert (await rec.update_task_interval("both", interval=60)).keys() == {
        "message", "task_name", "interval", "next_run_at"
    }  # fmt: skip
    by_hand = {"model_id": "m", "interactions_data_chef_id": "c", "interval": 60, "schedule": "0 3 * * *"}
    (rec.data_dir / "tasks/hand.json").write_text(json.dumps(by_hand))
    listed = await rec.list_tasks()
    assert listed["hand"]["warnings"] == [INTERVAL_UNUSED] and listed["all"]["warnings"] == [
        USER_FEATURES_UNREAD,
        INTERVAL_UNUSED,
    ]
    assert not [name for name in ("both", "one", "t") if "warnings" in listed[name]]
