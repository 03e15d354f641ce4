"""``recserver tasks history``: past and current runs, and their outcomes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from typer import Argument, Option

from recserver._internal.cli.client import connect
from recserver._internal.cli.command import AsJson, UsageError, checked_by
from recserver._internal.cli.output import console, format_time, one_line, print_json, print_rows
from recserver._internal.cli.requests import Url
from recserver._internal.core.errors import quoted
from recserver._internal.core.validation.values import parse_count
from recserver._internal.results.runs import RunOutcome, RunRecord

HEADERS = "started", "task", "model", "trigger", "outcome", "seconds", "version", "run", "error"


def _parse_outcome(value: str) -> str:
    if value not in list(RunOutcome):
        raise ValueError(f"{quoted(value)} is not an outcome: use one of {', '.join(RunOutcome)}")
    return value


async def history(
    task_name: Annotated[str | None, Argument(metavar="NAME", help="Only runs of this task.")] = None,
    *,
    model_id: Annotated[str | None, Option("--model", help="Only runs of this model.")] = None,
    outcome: Annotated[
        str | None, Option(callback=checked_by(_parse_outcome), help=f"Only these: {', '.join(RunOutcome)}.")
    ] = None,
    limit: Annotated[int, Option(callback=checked_by(parse_count), help="Maximum number of runs.")] = 20,
    run_id: Annotated[str | None, Option("--run", help="Show this one run, with all details.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show runs and their outcomes, newest first."""
    query = {"task_name": task_name, "model_id": model_id, "outcome": outcome}
    if run_id is not None and any(query.values()):
        raise UsageError("--run shows one run: leave out NAME, --model and --outcome.")
    async with connect(url) as client:
        if run_id is None:
            response = await client.get("list_runs", **query, limit=limit)
        else:
            response = await client.get("get_run", run_id=run_id)
    if as_json:
        print_json(response)
    elif run_id is not None:
        sys.stdout.writelines(f"{line}\n" for line in _outline(response))
    else:
        runs = response.get("data")
        if not isinstance(runs, list):
            raise client.unexpected_response()
        rows = [_row(client.run_record(run)) for run in runs]
        if rows:
            print_rows(HEADERS, rows, key_column="run", optional_columns=("model", "trigger", "run"))
        else:
            console.print("No runs found.")


def _row(run: RunRecord) -> tuple[Any, ...]:
    trigger = run.trigger if run.attempt == 1 else f"{run.trigger}, attempt {run.attempt}"
    return (
        format_time(run.started_at), run.task_name, run.model_id, trigger, run.outcome, run.seconds,
        run.model_version, run.run_id, run.error,
    )  # fmt: skip


def _outline(content: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """All fields, one per line; nested ones are indented."""
    margin = "  " * depth
    for name, value in content.items():
        if value is None or value in ({}, []):
            continue
        if isinstance(value, dict):
            yield f"{margin}{one_line(name)}"
            yield from _outline(value, depth + 1)
        elif isinstance(value, list):
            yield f"{margin}{one_line(name)}"
            yield from (f"{margin}  {one_line(element)}" for element in value)
        else:
            yield f"{margin}{one_line(name)}: {one_line(value)}"
