"""``recserver tasks``: the tasks of a running server, over its API."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from recserver.cli.client import Client, CommandFailed, connected
from recserver.cli.output import FAILED, complain, console, failing_quietly, print_json, print_rows, printable
from recserver.cli.run_follower import Follower
from recserver.cli.run_progress import Seen, display, duration
from recserver.core.clock import SystemClock
from recserver.training.run_outcome import RunOutcome
from recserver.training.run_record import RunRecord

STOPPED = 3
"""Exit status when the run that was followed was stopped; 2 stands for wrong options."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

EXITS: dict[str, int] = {RunOutcome.COMPLETED: 0, RunOutcome.UNCHANGED: 0, RunOutcome.STOPPED: STOPPED}
"""The exit status by how a run ended; any other is :data:`FAILED`."""

MOST_AT_ONCE = 8
"""Questions about running tasks that are under way together."""


def list_tasks(url: str | None, *, as_json: bool) -> None:
    """Show every task and its state."""
    with failing_quietly():
        asyncio.run(_list(url, as_json=as_json))


def change_task(url: str | None, verb: str, task_name: str, *, as_json: bool) -> None:
    """Send a verb about one task, such as ``pause_task``, and show what the server says."""
    with failing_quietly():
        asyncio.run(_tell(url, verb, task_name, as_json=as_json))


def run_task(url: str | None, task_name: str, *, wait: bool, as_json: bool) -> None:
    """Train a task's model now; with ``wait``, follow the run to its end and exit as it ended."""
    with failing_quietly():
        if not wait:
            asyncio.run(_tell(url, "run_task", task_name, as_json=as_json))
            return
        followers: list[Follower] = []
        try:
            run = asyncio.run(_follow(url, task_name, followers, as_json=as_json))
        except KeyboardInterrupt:
            _say_what_goes_on(url, task_name, followers)
            sys.exit(INTERRUPTED)
        record = _record(run)
        if as_json:
            print_json(run)
        else:
            console.print(_in_a_sentence(record), markup=False)
        sys.exit(EXITS.get(record.outcome, FAILED))


async def _tell(url: str | None, verb: str, task_name: str, *, as_json: bool) -> None:
    async with connected(url) as client:
        answer = await client.post(verb, task_name=task_name)
    if as_json:
        print_json(answer)
        return
    console.print(printable(str(answer.get("message"))), markup=False)
    if "run_id" in answer:
        console.print(f"Its run is {printable(str(answer['run_id']))}.", markup=False)


async def _follow(url: str | None, task_name: str, followers: list[Follower], *, as_json: bool) -> dict[str, Any]:
    clock = SystemClock()
    async with connected(url) as client:
        with display(clock, as_json=as_json) as shown:
            followers.append(Follower(client, shown, clock))
            return await followers[0].begin(task_name)


def _say_what_goes_on(url: str | None, task_name: str, followers: list[Follower]) -> None:
    named = f" --url {shlex.quote(url)}" if url is not None and url != os.environ.get("RECSERVER_URL") else ""
    run_id = followers[0].run_id if followers else None
    if run_id is None:
        complain(f"interrupted before the run began, perhaps: recserver tasks list{named} tells.")
    else:
        complain(
            f"run {run_id} is not followed any more, but goes on: "
            f"recserver tasks stop {shlex.quote(task_name)}{named} stops it."
        )


def _record(run: Mapping[str, Any]) -> RunRecord:
    try:
        return RunRecord.model_validate(run)
    except ValidationError:
        raise CommandFailed("The server told of a run in a way that this version does not know.") from None


def _in_a_sentence(run: RunRecord) -> str:
    parts = [run.outcome]
    if run.model_version is not None:
        parts.append(f"version {run.model_version}")
    if run.seconds is not None:
        parts.append(duration(run.seconds))
    if run.outcome == RunOutcome.UNCHANGED:
        parts.append("nothing new to learn")
    return printable(", ".join(parts) + (f": {run.error}" if run.error else ""))


async def _list(url: str | None, *, as_json: bool) -> None:
    async with connected(url) as client:
        tasks = await client.get("list_tasks")
        if as_json:
            print_json(tasks)
            return
        if any(not isinstance(task, dict) for task in tasks.values()):
            raise client.unusable()
        scheduler = (await client.get("get_scheduler_status")).get("data")
        places = asyncio.Semaphore(MOST_AT_ONCE)
        states = await asyncio.gather(*(_state(client, places, *one) for one in tasks.items()))
    if not tasks:
        console.print("There are no tasks: POST /add_model_task adds one.")
    else:
        heads = "task", "model", "rhythm", "state", "last run", "next run", "error"
        rows = [_row(name, task, state) for (name, task), state in zip(tasks.items(), states, strict=True)]
        print_rows(heads, rows, named_by="task", spared=("model",))
    if isinstance(scheduler, dict) and scheduler.get("is_running") is False:
        console.print("The scheduler is stopped: no task runs by itself until POST /restart_scheduler.")


def _row(name: str, task: Mapping[str, Any], state: str) -> tuple[Any, ...]:
    last = None
    if task.get("last_status") is not None:
        how = "began" if task["last_status"] == "training" else task["last_status"]
        last = f"{how}, {moment(task.get('last_run_at'))}"
    return (
        name, task.get("model_id"), _rhythm(task), state, last, moment(task.get("next_run_at")),
        task.get("last_error"),
    )  # fmt: skip


def _rhythm(task: Mapping[str, Any]) -> str | None:
    if task.get("schedule") is not None:
        return f"{task['schedule']} ({task.get('timezone')})"
    return None if task.get("interval") is None else f"every {task['interval']} s"


async def _state(client: Client, places: asyncio.Semaphore, name: str, task: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if task.get("running"):
        async with places:
            parts.append(f"running, {await _progress(client, name, task)}")
    if task.get("enabled") is False:
        parts.append("paused")
    if task.get("failing_since") is not None:
        parts.append(f"failing since {moment(task['failing_since'])}")
    if not parts:
        parts.append("waiting" if task.get("next_run_at") is not None else "not scheduled")
    return "; ".join(parts)


async def _progress(client: Client, name: str, task: Mapping[str, Any]) -> str:
    """How far the run of a task is. It may have ended meanwhile."""
    try:
        status = (await client.get("get_training_status", model_id=task.get("model_id"))).get("data")
        if isinstance(status, dict) and status.get("task_name") == name:
            return Seen.model_validate({one: status.get(one) for one in Seen.model_fields}).in_words
    except (CommandFailed, ValidationError):
        pass
    return "about to end"


def moment(timestamp: object) -> str:
    """A time of the server, to the second."""
    if not isinstance(timestamp, str):
        return "-"
    return f"{timestamp[:19].replace('T', ' ')}Z" if timestamp.endswith("Z") else timestamp
