"""``recserver tasks``: the tasks of a running server, over its API."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from recserver.cli.client import Client, CommandFailed, connect
from recserver.cli.join import begin_or_join
from recserver.cli.output import (
    EXIT_FAILED,
    console,
    exit_on_error,
    print_error,
    print_json,
    print_rows,
    printable,
)
from recserver.cli.run_follower import RunFollower
from recserver.cli.run_progress import RunProgress, format_duration, make_display
from recserver.core.clock import SystemClock
from recserver.training.run_outcome import RunOutcome
from recserver.training.run_record import RunRecord

EXIT_STOPPED = 3
"""Exit status when the run that was followed was stopped; 2 stands for wrong options."""

EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

EXIT_BY_OUTCOME: dict[str, int] = {
    RunOutcome.COMPLETED: 0,
    RunOutcome.UNCHANGED: 0,
    RunOutcome.STOPPED: EXIT_STOPPED,
}
"""The exit status by how a run ended; any other is :data:`FAILED`."""

MAX_CONCURRENT_REQUESTS = 8
"""Questions about running tasks that are under way together."""


def list_tasks(url: str | None, *, as_json: bool) -> None:
    """Show every task and its state."""
    with exit_on_error():
        asyncio.run(_list(url, as_json=as_json))


def change_task(url: str | None, operation: str, task_name: str, *, as_json: bool) -> None:
    """Send a verb about one task, such as ``pause_task``, and show what the server says."""
    with exit_on_error():
        asyncio.run(_post(url, operation, task_name, as_json=as_json))


def run_task(url: str | None, task_name: str, *, wait: bool, as_json: bool) -> None:
    """Train a task's model now, or join the run of it under way; with ``wait``, exit as the run ended."""
    with exit_on_error():
        if not wait:
            asyncio.run(_begin(url, task_name, as_json=as_json))
            return
        followers: list[RunFollower] = []
        try:
            run = asyncio.run(_follow(url, task_name, followers, as_json=as_json))
        except KeyboardInterrupt:
            _print_interrupted(url, task_name, followers)
            sys.exit(EXIT_INTERRUPTED)
        record = _parse_run(run)
        if as_json:
            print_json(run)
        else:
            console.print(_summary(record), markup=False)
        sys.exit(EXIT_BY_OUTCOME.get(record.outcome, EXIT_FAILED))


async def _post(url: str | None, operation: str, task_name: str, *, as_json: bool) -> None:
    async with connect(url) as client:
        _print_answer(await client.post(operation, task_name=task_name), as_json=as_json)


async def _begin(url: str | None, task_name: str, *, as_json: bool) -> None:
    async with connect(url) as client:
        _print_answer(await begin_or_join(client, task_name), as_json=as_json)


def _print_answer(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    console.print(printable(str(answer.get("message"))), markup=False)
    if "run_id" in answer:
        console.print(f"Its run is {printable(str(answer['run_id']))}.", markup=False)


async def _follow(
    url: str | None, task_name: str, followers: list[RunFollower], *, as_json: bool
) -> dict[str, Any]:
    clock = SystemClock()
    async with connect(url) as client:
        with make_display(clock, as_json=as_json) as shown:
            followers.append(RunFollower(client, shown, clock))
            return await followers[0].run(task_name)


def _print_interrupted(url: str | None, task_name: str, followers: list[RunFollower]) -> None:
    named = f" --url {shlex.quote(url)}" if url is not None and url != os.environ.get("RECSERVER_URL") else ""
    run_id = followers[0].run_id if followers else None
    if run_id is None:
        print_error(f"interrupted before the run began, perhaps: recserver tasks list{named} tells.")
    else:
        print_error(
            f"run {run_id} is not followed any more, but goes on: "
            f"recserver tasks stop {shlex.quote(task_name)}{named} stops it."
        )


def _parse_run(run: Mapping[str, Any]) -> RunRecord:
    try:
        return RunRecord.model_validate(run)
    except ValidationError:
        raise CommandFailed("The server told of a run in a way that this version does not know.") from None


def _summary(run: RunRecord) -> str:
    parts = [run.outcome]
    if run.model_version is not None:
        parts.append(f"version {run.model_version}")
    if run.seconds is not None:
        parts.append(format_duration(run.seconds))
    if run.outcome == RunOutcome.UNCHANGED:
        parts.append("nothing new to learn")
    return printable(", ".join(parts) + (f": {run.error}" if run.error else ""))


async def _list(url: str | None, *, as_json: bool) -> None:
    async with connect(url) as client:
        tasks = await client.get("list_tasks")
        if as_json:
            print_json(tasks)
            return
        if any(not isinstance(task, dict) for task in tasks.values()):
            raise client.unexpected_response()
        scheduler = (await client.get("get_scheduler_status")).get("data")
        places = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)
        states = await asyncio.gather(*(_state(client, places, *one) for one in tasks.items()))
    if not tasks:
        console.print("There are no tasks: POST /add_model_task adds one.")
    else:
        heads = "task", "model", "rhythm", "state", "last run", "next run", "error"
        rows = [_row(name, task, state) for (name, task), state in zip(tasks.items(), states, strict=True)]
        print_rows(heads, rows, key_column="task", optional_columns=("model",))
    if isinstance(scheduler, dict) and scheduler.get("is_running") is False:
        console.print("The scheduler is stopped: no task runs by itself until POST /restart_scheduler.")


def _row(name: str, task: Mapping[str, Any], state: str) -> tuple[Any, ...]:
    last = None
    if task.get("last_status") is not None:
        how = "began" if task["last_status"] == "training" else task["last_status"]
        last = f"{how}, {format_time(task.get('last_run_at'))}"
    return (
        name, task.get("model_id"), _schedule_text(task), state, last, format_time(task.get("next_run_at")),
        task.get("last_error"),
    )  # fmt: skip


def _schedule_text(task: Mapping[str, Any]) -> str | None:
    if task.get("schedule") is not None:
        return f"{task['schedule']} ({task.get('timezone')})"
    return None if task.get("interval") is None else f"every {task['interval']} s"


async def _state(client: Client, slots: asyncio.Semaphore, name: str, task: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if task.get("running"):
        async with slots:
            parts.append(f"running, {await _progress(client, name, task)}")
    if task.get("enabled") is False:
        parts.append("paused")
    if task.get("failing_since") is not None:
        parts.append(f"failing since {format_time(task['failing_since'])}")
    if not parts:
        parts.append("waiting" if task.get("next_run_at") is not None else "not scheduled")
    return "; ".join(parts)


async def _progress(client: Client, name: str, task: Mapping[str, Any]) -> str:
    """How far the run of a task is. It may have ended meanwhile."""
    try:
        status = (await client.get("get_training_status", model_id=task.get("model_id"))).get("data")
        if isinstance(status, dict) and status.get("task_name") == name:
            return RunProgress.model_validate({one: status.get(one) for one in RunProgress.model_fields}).summary
    except (CommandFailed, ValidationError):
        pass
    return "about to end"


def format_time(timestamp: object) -> str:
    """A time of the server, to the second."""
    if not isinstance(timestamp, str):
        return "-"
    return f"{timestamp[:19].replace('T', ' ')}Z" if timestamp.endswith("Z") else timestamp
