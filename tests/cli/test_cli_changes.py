"""The command line creates, edits and deletes on a running server, as the HTTP API does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from recserver import RecServer, RunEnded, Settings
from recserver._internal.cli import COMMANDS, app
from recserver.testing import ScriptedExecutor

Cli = Callable[..., Awaitable[Result]]

WITHOUT_JSON = {
    "demo": "prints a tour for people",
    "serve": "runs until it is stopped; its log is JSON by RECSERVER_LOG_FORMAT",
    "version": "prints one line",
    "models export": "writes a file",
    "models import": "reads a file",
}
"""Commands that have no --json, and why."""


@pytest.fixture
async def rec(data_dir: Path, settings: Settings) -> AsyncIterator[RecServer]:
    """An open server over an empty data folder, whose trainings complete at once."""
    trainings = ScriptedExecutor()

    async def finish_all() -> None:
        while True:
            (await trainings.next()).finish()

    async with RecServer(data_dir, settings, executor=trainings) as server:
        (data_dir / "rows.csv").write_text("user_id,item_id\nu0,i0\n")
        finishing = asyncio.create_task(finish_all())
        yield server
        finishing.cancel()


@pytest.fixture
async def cli(rec: RecServer) -> AsyncIterator[Cli]:
    """Calls ``recserver ARGUMENTS`` in a thread, for the server ``rec``."""
    async with rec.serve() as url:

        async def call(*arguments: str) -> Result:
            environment = {"RECSERVER_URL": url, "RECSERVER_API_KEY": None}
            return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)

        yield call


async def done(cli: Cli, *arguments: str) -> dict[str, Any]:
    """The JSON that a command prints, which must succeed and print nothing else."""
    result = await cli(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


async def refused(cli: Cli, *arguments: str, status: int = 1) -> str:
    """The sentence of a command that must fail."""
    result = await cli(*arguments)
    assert (result.exit_code, result.stdout) == (status, ""), result.output
    return result.stderr.removeprefix("recserver: ").strip()


async def train(cli: Cli, rec: RecServer) -> None:
    """Create the model m, the data chef c and the task t, and train twice."""
    await done(cli, "models", "create", "m")
    await done(cli, "chefs", "add", "c", "rows.csv")
    with rec.events.listen() as events:
        await done(cli, "tasks", "add", "t", "--model", "m", "--chef", "c", "--interval", "3600")
        await events.next(RunEnded)
        await rec.run_task("t")
        await events.next(RunEnded)


async def test_a_model_is_created_trained_and_deleted(cli: Cli, rec: RecServer) -> None:
    options = ("--algorithm", "als", "--name", "Mine", "--set", "n_components=4", "--set", "feedback=implicit")
    created = await done(cli, "models", "create", "m", *options)
    assert created["hyperparameters"] | {"n_components": 4, "feedback": "implicit"} == created["hyperparameters"]
    assert (await rec.get_model_info("m")).model_name == "Mine"
    assert "exists" in await refused(cli, "models", "create", "m")
    assert (await done(cli, "models", "create", "m", "--overwrite"))["algorithm"] == "nmf"
    assert "--yes" in await refused(cli, "models", "delete", "m", status=2)
    shown = await cli("models", "delete", "m", "--dry-run")
    assert shown.exit_code == 0 and "file: models/m_config.json" in shown.stdout
    assert (await done(cli, "models", "delete", "m", "--yes"))["status"] == "deleted"
    assert await rec.list_models() == {}


async def test_versions_are_listed_pinned_promoted_and_rolled_back(cli: Cli, rec: RecServer) -> None:
    await train(cli, rec)
    listed = await cli("models", "versions", "m")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["version", "2", "1"]
    assert "serving" in listed.stdout.splitlines()[1]
    assert (await done(cli, "models", "rollback", "m"))["model_version"] == 1
    assert (await done(cli, "models", "promote", "m", "2"))["model_version"] == 2
    await done(cli, "models", "pin", "m", "1")
    assert [one.pinned for one in (await rec.list_model_versions("m")).data] == [False, True]
    await done(cli, "models", "pin", "m", "1", "--undo")
    assert [one.pinned for one in (await rec.list_model_versions("m")).data] == [False, False]
    assert "no version 7" in await refused(cli, "models", "promote", "m", "7")


@pytest.mark.parametrize(
    ("arguments", "entry"),
    [
        (["rows.csv"], {"type": "csv", "path": "rows.csv"}),
        (["rows.csv", "--set", "delimiter=;", "--rename", "a->user_id"],
         {"type": "csv", "delimiter": ";", "rename_columns": "a->user_id"}),
        (["https://shop.example.com/clicks", "--set", "paginated=true"],
         {"type": "api", "url": "https://shop.example.com/clicks", "paginated": True}),
        (["postgresql://reader@db.example.com/shop", "--query", "SELECT a, b FROM c"],
         {"type": "sql", "query": "SELECT a, b FROM c", "connection": "postgresql://reader@db.example.com/shop"}),
        (["--query", "SELECT a, b FROM c"], {"type": "sql", "query": "SELECT a, b FROM c"}),
    ],
)  # fmt: skip
async def test_a_data_chef_is_added_and_deleted(
    cli: Cli, rec: RecServer, arguments: list[str], entry: dict[str, Any]
) -> None:
    assert (await done(cli, "chefs", "add", "c", *arguments))["type"] == entry["type"]
    stored = (await rec.list_data_chefs())["c"].content
    assert stored | entry == stored
    assert "exists" in await refused(cli, "chefs", "add", "c", *arguments)
    await done(cli, "chefs", "add", "c", *arguments, "--overwrite")
    await done(cli, "chefs", "delete", "c")
    assert await rec.list_data_chefs() == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "No source is given"),
        (["postgresql://reader@db.example.com/shop"], "needs a --query"),
        (["rows.csv", "--set", "delimiter"], "is not a pair"),
        (["rows.csv", "--set", "=;"], "is not a pair"),
        (["rows.csv", "--set", "delimiter=;", "--set", "delimiter=,"], "given twice"),
    ],
)
async def test_a_data_chef_needs_a_source(cli: Cli, arguments: list[str], sentence: str) -> None:
    assert sentence in await refused(cli, "chefs", "add", "c", *arguments, status=2)


async def test_a_task_is_edited_and_removed(cli: Cli, rec: RecServer) -> None:
    await train(cli, rec)
    await done(cli, "chefs", "add", "items", "items.csv")
    path = rec.data_dir / "tasks" / "t.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"owner": "ann"}))
    edited = await done(cli, "tasks", "edit", "t", "--schedule", "30 2 * * *", "--timezone", "Europe/Berlin")
    assert edited["next_run_at"] is not None
    await done(cli, "tasks", "edit", "t", "--item-features", "items", "--time-limit", "60")
    task = (await rec.list_tasks())["t"]
    assert (task.interval, task.schedule, task.timezone) == (None, "30 2 * * *", "Europe/Berlin")
    assert (task.item_features_data_chef_id, task.time_limit, task.model_id) == ("items", 60, "m")
    await done(cli, "tasks", "edit", "t", "--interval", "60", "--item-features", "")
    task = (await rec.list_tasks())["t"]
    assert (task.interval, task.schedule, task.item_features_data_chef_id) == (60, None, None)
    assert json.loads(path.read_text())["owner"] == "ann"
    assert "Nothing is to be changed" in await refused(cli, "tasks", "edit", "t")
    assert "no data chef 'x'" in await refused(cli, "tasks", "edit", "t", "--chef", "x")
    assert "no model 'x'" in await refused(cli, "tasks", "edit", "t", "--model", "x")
    await done(cli, "tasks", "remove", "t")
    assert "no task 't'" in await refused(cli, "tasks", "remove", "t")


async def test_a_task_is_edited_while_its_chef_is_missing(cli: Cli, rec: RecServer) -> None:
    await train(cli, rec)
    await done(cli, "chefs", "delete", "c")
    await done(cli, "tasks", "edit", "t", "--interval", "60")
    await rec.edit_task("t", enabled=False)
    task = (await rec.list_tasks())["t"]
    assert (task.interval, task.enabled) == (60, False)


async def test_answers_are_sentences_with_warnings(cli: Cli) -> None:
    await cli("models", "create", "m")
    await cli("chefs", "add", "c", "rows.csv")
    times = "--interval", "60", "--schedule", "0 3 * * *", "--paused"
    added = await cli("tasks", "add", "t", "--model", "m", "--chef", "c", *times)
    first, *warnings = added.stdout.splitlines()
    assert first.startswith("Task t was added") and len(warnings) == 1 and warnings[0].startswith("warning: ")


def test_every_command_that_prints_has_json() -> None:
    found = {name for name, command in commands() if not any("--json" in one.opts for one in command.params)}
    assert found == set(WITHOUT_JSON)


def commands() -> list[tuple[str, Any]]:
    """All commands of ``recserver``, with the names of their groups."""
    group = typer.main.get_command(app)
    context = group.make_context("recserver", ["version"])
    found: list[tuple[str, Any]] = []
    for name in [*COMMANDS, "version"]:
        _, command, _ = group.resolve_command(context, [name])  # type: ignore[attr-defined]
        nested = getattr(command, "commands", None)
        found += [(f"{name} {one}", nested[one]) for one in nested] if nested else [(name, command)]
    return found
