"""A run of a task begun over HTTP, or the one joined that is under way already."""

from __future__ import annotations

from typing import Any

from recserver.cli.client import Client, CommandFailed
from recserver.training.run_outcome import RunOutcome

MAX_ATTEMPTS = 3
"""The run that was in the way may have ended before it was asked for."""


async def begin_or_join(client: Client, task_name: str) -> dict[str, Any]:
    """What ``run_task`` answers, or the same of the run of the task that is under way, with ``joined``.

    Raises:
        CommandFailed: if the task cannot run, such as when another one trains its model.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return await client.post("run_task", task_name=task_name)
        except CommandFailed as error:
            if error.status != 409:
                raise
            if (joined := await _under_way(client, task_name)) is not None:
                return joined
            if attempt == MAX_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


async def _under_way(client: Client, task_name: str) -> dict[str, Any] | None:
    """The run of the task that trains the model which the task names now; None if there is none."""
    task = (await client.get("list_tasks")).get(task_name)
    if not isinstance(task, dict) or not task.get("running") or not task.get("last_run_id"):
        return None
    run = await client.get("get_run", run_id=task["last_run_id"])
    if run.get("outcome") != RunOutcome.RUNNING or run.get("model_id") != task.get("model_id"):
        return None
    return {
        "message": f"Task {task_name} was training model {run['model_id']} already; that run was joined.",
        "task_name": task_name,
        "model_id": run["model_id"],
        "run_id": run.get("run_id"),
        "joined": True,
    }
