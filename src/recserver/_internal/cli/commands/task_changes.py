"""``recserver tasks``: add, edit and remove tasks of a running server."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from recserver._internal.cli.command import AsJson, command
from recserver._internal.cli.requests import Overwrite, Url, send

TaskName = Annotated[str, Argument(metavar="NAME", help="The task.")]
Interval = Annotated[float | None, Option(help="Seconds from one run to the next.")]
Schedule = Annotated[str | None, Option(help="A cron expression, such as '30 2 * * *', instead of an interval.")]
Zone = Annotated[str | None, Option("--timezone", help="The time zone of the schedule, such as Europe/Berlin.")]
ItemFeatures = Annotated[
    str | None, Option("--item-features", metavar="CHEF", help="Data chef of item attributes.")
]
UserFeatures = Annotated[str | None, Option("--user-features", metavar="CHEF", help="Data chef of user features.")]
TimeLimit = Annotated[float | None, Option(help="Seconds that one training may take.")]
MemoryLimit = Annotated[int | None, Option(help="MiB that one training may use.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for name, function in (("add", add_task), ("edit", edit_task), ("remove", remove_task)):
        command(app, name)(function)


async def add_task(
    task_name: Annotated[str, Argument(metavar="NAME", help="Its name.")],
    *,
    model_id: Annotated[str, Option("--model", metavar="ID", help="The model to train.")],
    data_chef_id: Annotated[str, Option("--chef", metavar="ID", help="The data chef of the interactions.")],
    interval: Interval = None,
    schedule: Schedule = None,
    timezone: Zone = None,
    paused: Annotated[bool, Option("--paused", help="Do not schedule it yet.")] = False,
    item_features: ItemFeatures = None,
    user_features: UserFeatures = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    overwrite: Overwrite = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Train a model regularly; the first run starts at once if it has no version that can serve."""
    await send(
        "POST", "add_model_task", url, as_json=as_json, task_name=task_name, model_id=model_id,
        data_chef_id=data_chef_id, interval=interval, schedule=schedule, timezone=timezone, enabled=not paused,
        item_features_data_chef_id=item_features, user_features_data_chef_id=user_features, time_limit=time_limit,
        memory_limit=memory_limit, overwrite=overwrite,
    )  # fmt: skip


async def edit_task(
    task_name: TaskName,
    *,
    model_id: Annotated[str | None, Option("--model", metavar="ID", help="The model to train.")] = None,
    data_chef_id: Annotated[
        str | None, Option("--chef", metavar="ID", help="The data chef of the interactions.")
    ] = None,
    interval: Interval = None,
    schedule: Schedule = None,
    timezone: Zone = None,
    item_features: ItemFeatures = None,
    user_features: UserFeatures = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a task, and keep everything else. '' removes a data chef of features."""
    await send(
        "POST", "edit_task", url, as_json=as_json, task_name=task_name, model_id=model_id,
        data_chef_id=data_chef_id, interval=interval, schedule=schedule, timezone=timezone,
        item_features_data_chef_id=item_features, user_features_data_chef_id=user_features, time_limit=time_limit,
        memory_limit=memory_limit,
    )  # fmt: skip


async def remove_task(task_name: TaskName, url: Url = None, as_json: AsJson = False) -> None:
    """Remove a task. Its current run is cancelled; the model stays."""
    await send("POST", "remove_model_task", url, as_json=as_json, task_name=task_name)
