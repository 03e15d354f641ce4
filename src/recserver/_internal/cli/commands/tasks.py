"""``recserver tasks``: the tasks of a running server, over its API."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ValidationError
from typer import Argument, Option

from recserver._internal.cli.client import Client, CommandFailed, connect
from recserver._internal.cli.command import EXIT_FAILED, AsJson, command, new_app
from recserver._internal.cli.commands import history, task_changes
from recserver._internal.cli.output import console, format_time, print_error, print_json, print_line, print_rows
from recserver._internal.cli.requests import Url, print_answer
from recserver._internal.cli.run_follower import RunFollower, start_or_join
from recserver._internal.cli.run_progress import RunProgress, format_duration, make_display
from recserver._internal.core.clock import SystemClock
from recserver._internal.results.runs import RunOutcome, RunRecord

EXIT_STOPPED = 3
"""Exit status when the run that was followed was stopped; 2 is for wrong options."""

EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

EXIT_BY_OUTCOME: dict[str, int] = {
    RunOutcome.COMPLETED: 0,
    RunOutcome.UNCHANGED: 0,
    RunOutcome.STOPPED: EXIT_STOPPED,
}
"""The exit status by the outcome of a run; any other is :data:`EXIT_FAILED`."""

MAX_CONCURRENT_REQUESTS = 8
"""Requests for the progress of running tasks that are sent at the same time."""

HEADERS = "task", "model", "schedule", "state", "last run", "next run", "error"

TaskName = Annotated[str, Argument(metavar="NAME", help="The task.")]

app = new_app(
    "tasks", "Add, list, run and stop the tasks of a running server. RECSERVER_API_KEY is its API key, if any."
)
task_changes.add_commands(app)
command(app, "history")(history.history)


@command(app, "list")
async def list_tasks(url: Url = None, as_json: AsJson = False) -> None:
    """Show all tasks: their schedule, progress, last outcome and last error."""
    async with connect(url) as client:
        tasks = await client.get("list_tasks")
        if as_json:
            print_json(tasks)
            return
        if any(not isinstance(task, dict) for task in tasks.values()):
            raise client.unexpected_response()
        scheduler = (await client.get("get_scheduler_status")).get("data")
        slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)
        states = await asyncio.gather(*(_state(client, slots, name, task) for name, task in tasks.items()))
    if tasks:
        rows = [_row(name, task, state) for (name, task), state in zip(tasks.items(), states, strict=True)]
        print_rows(HEADERS, rows, key_column="task", optional_columns=("model",))
        for name, task in tasks.items():
            for warning in _warnings(task):
                print_line(f"{name}: warning: {warning}")
    else:
        console.print("There are no tasks: recserver tasks add adds one.")
    if isinstance(scheduler, dict) and scheduler.get("is_running") is False:
        console.print("The scheduler is stopped: no task runs on schedule until POST /restart_scheduler.")


@command(app, "run")
def run_task(
    task_name: TaskName,
    no_wait: Annotated[bool, Option("--no-wait", help="Do not follow the run.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Train a task's model now, or join the current run of the task, and follow it to its end.

    The exit status is 0 if the run completed, 1 if it failed, 3 if it was stopped. Ctrl-C stops following, not the
    training.
    """
    if no_wait:
        asyncio.run(_start(url, task_name, as_json=as_json))
        return
    followers: list[RunFollower] = []
    try:
        record = asyncio.run(_follow(url, task_name, followers, as_json=as_json))
    except KeyboardInterrupt:
        _print_interrupted(url, task_name, followers)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_BY_OUTCOME.get(record.outcome, EXIT_FAILED))


def _add_operation(name: str, endpoint: str, summary: str) -> None:
    """Add a command that sends one request about a task and shows the answer."""

    @command(app, name, summary)
    async def run(task_name: TaskName, url: Url = None, as_json: AsJson = False) -> None:
        async with connect(url) as client:
            print_answer(await client.post(endpoint, task_name=task_name), as_json=as_json)


_add_operation("pause", "pause_task", "Stop scheduling a task. A current run continues.")
_add_operation("resume", "resume_task", "Schedule a paused task again.")
_add_operation(
    "stop", "stop_training", "Stop the current run of a task at once. The serving version does not change."
)


async def _start(url: str | None, task_name: str, *, as_json: bool) -> None:
    async with connect(url) as client:
        print_answer(await start_or_join(client, task_name), as_json=as_json)


async def _follow(url: str | None, task_name: str, followers: list[RunFollower], *, as_json: bool) -> RunRecord:
    clock = SystemClock()
    async with connect(url) as client:
        with make_display(clock, as_json=as_json) as display:
            followers.append(RunFollower(client, display, clock))
            run = await followers[0].run(task_name)
    record = client.run_record(run)
    if as_json:
        print_json(run)
    else:
        print_line(_summary(record))
    return record


def _print_interrupted(url: str | None, task_name: str, followers: list[RunFollower]) -> None:
    option = f" --url {shlex.quote(url)}" if url is not None and url != os.environ.get("RECSERVER_URL") else ""
    run_id = followers[0].run_id if followers else None
    if run_id is None:
        print_error(
            f"interrupted, perhaps before the run started: recserver tasks list{option} shows whether it did."
        )
    else:
        print_error(
            f"stopped following run {run_id}, which continues: "
            f"recserver tasks stop {shlex.quote(task_name)}{option} stops it."
        )


def _summary(run: RunRecord) -> str:
    parts = [run.outcome]
    if run.model_version is not None:
        parts.append(f"version {run.model_version}")
    if run.seconds is not None:
        parts.append(format_duration(run.seconds))
    if run.outcome == RunOutcome.UNCHANGED:
        parts.append("no new data")
    return ", ".join(parts) + (f": {run.error}" if run.error else "")


def _row(name: str, task: Mapping[str, Any], state: str) -> tuple[Any, ...]:
    last_run = None
    if task.get("last_status") is not None:
        outcome = "started" if task["last_status"] == "training" else task["last_status"]
        last_run = f"{outcome}, {format_time(task.get('last_run_at'))}"
    return (
        name, task.get("model_id"), _schedule_text(task), state, last_run, format_time(task.get("next_run_at")),
        task.get("last_error"),
    )  # fmt: skip


def _warnings(task: Mapping[str, Any]) -> list[str]:
    """What a task and its last completed run warn of, and the rows that its last run rejected."""
    report = task.get("data_report") or {}
    rejected = sum(report.get("rejected", {}).values())
    rows = [f"{rejected} of {report['rows_read']} rows were rejected."] if rejected else []
    return [*task.get("warnings", ()), *task.get("last_warnings", ()), *rows]


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
    """The progress of the run of a task, which may have ended since the tasks were listed."""
    try:
        status = (await client.get("get_training_status", model_id=task.get("model_id"))).get("data")
        if isinstance(status, dict) and status.get("task_name") == name:
            fields = {field: status.get(field) for field in RunProgress.model_fields}
            return RunProgress.model_validate(fields).summary
    except (CommandFailed, ValidationError):
        pass
    return "about to end"
