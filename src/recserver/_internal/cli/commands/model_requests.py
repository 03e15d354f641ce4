"""``recserver models``: the commands that need a running server."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer import Argument, Option

from recserver._internal.cli.client import connect
from recserver._internal.cli.command import AsJson, UsageError, command
from recserver._internal.cli.output import console, format_time, print_json, print_rows
from recserver._internal.cli.requests import Assignments, Overwrite, Url, parse_assignments, print_answer, send

ModelId = Annotated[str, Argument(metavar="ID", help="The model.")]
Version = Annotated[int, Argument(metavar="VERSION", help="The number of the version.")]

HEADERS = "version", "created", "NDCG@10", "state", "MB", "damaged"


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for name, function in (
        ("create", create_model), ("delete", delete_model), ("versions", list_versions),
        ("rollback", roll_back), ("promote", promote), ("pin", pin),
    ):  # fmt: skip
        command(app, name)(function)


async def create_model(
    model_id: Annotated[str, Argument(metavar="ID", help="Its id.")],
    *,
    algorithm: Annotated[str, Option(help="Its algorithm.")] = "nmf",
    name: Annotated[str | None, Option(help="Its name for people; by default the id.")] = None,
    message: Annotated[str | None, Option(help="A description.")] = None,
    hyperparameters: Assignments = None,
    overwrite: Overwrite = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a model on a running server. --set gives its hyperparameters; a task trains it."""
    await send(
        "POST", "create_model", url, as_json=as_json, model_id=model_id, algorithm=algorithm, model_name=name,
        message=message, hyperparameters=parse_assignments(hyperparameters) or None, overwrite=overwrite,
    )  # fmt: skip


async def delete_model(
    model_id: ModelId,
    *,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Only show what would be deleted.")] = False,
    force: Annotated[bool, Option("--force", help="Even if tasks train it; the tasks stay.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a model of a running server, with all its versions."""
    if not (yes or dry_run):
        if not sys.stdin.isatty() or as_json:
            raise UsageError("Deleting a model cannot be undone: add --yes, or --dry-run to see what would go.")
        typer.confirm(f"Delete model {model_id} and all its versions?", abort=True, err=True)
    async with connect(url) as client:
        answer = await client.request(
            "DELETE", "delete_model", {"model_id": model_id, "force": force, "dry_run": dry_run}
        )
    print_answer(answer, as_json=as_json)
    if not as_json:
        for kind, names in (
            ("file", answer["files_deleted"]),
            ("task without its model", answer["tasks_affected"]),
        ):
            for one in names:
                console.print(f"  {kind}: {one}", markup=False)


async def list_versions(model_id: ModelId, url: Url = None, as_json: AsJson = False) -> None:
    """Show the stored versions of a model of a running server."""
    async with connect(url) as client:
        answer = await client.get("list_model_versions", model_id=model_id)
    if as_json:
        print_json(answer)
        return
    rows = [_row(version) for version in answer["data"]]
    if rows:
        print_rows(HEADERS, rows, key_column="version")
    else:
        console.print(f"Model {model_id} has no versions yet.", markup=False)


async def roll_back(
    model_id: ModelId,
    version: Annotated[int | None, Option(help="By default the one that served before.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Let an earlier version serve again."""
    await send("POST", "rollback_model", url, as_json=as_json, model_id=model_id, model_version=version)


async def promote(model_id: ModelId, version: Version, url: Url = None, as_json: AsJson = False) -> None:
    """Let a stored version serve, even if the quality gate rejected it."""
    await send("POST", "promote_model", url, as_json=as_json, model_id=model_id, model_version=version)


async def pin(
    model_id: ModelId,
    version: Version,
    unpin: Annotated[bool, Option("--undo", help="Unpin it.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Store a version permanently; while it serves, no new version replaces it."""
    await send(
        "POST",
        "pin_model_version",
        url,
        as_json=as_json,
        model_id=model_id,
        model_version=version,
        pinned=not unpin,
    )


def _row(version: dict[str, Any]) -> tuple[Any, ...]:
    states = [name for name in ("serving", "pinned") if version[name]]
    if not version["promoted"]:
        states.append("not promoted")
    return (
        version["model_version"], format_time(version["created_at"]), version["metrics"].get("ndcg_at_10"),
        ", ".join(states) or None, round(version["bytes"] / 2**20, 2), version.get("damaged"),
    )  # fmt: skip
