"""``recserver tasks history``: what ran, and what became of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from recserver.cli.client import connect
from recserver.cli.commands.tasks import format_time
from recserver.cli.output import console, exit_on_error, one_line, print_json, print_rows
from recserver.training.run_record import RunRecord

HEADERS = "started", "task", "model", "trigger", "outcome", "seconds", "version", "run", "error"


def show_runs(url: str | None, *, as_json: bool, **query: Any) -> None:
    """Show the runs that ``GET /list_runs`` finds, newest first."""
    with exit_on_error():
        asyncio.run(_runs(url, query, as_json=as_json))


def show_run(url: str | None, run_id: str, *, as_json: bool) -> None:
    """Show one run with all that is known of it."""
    with exit_on_error():
        asyncio.run(_run(url, run_id, as_json=as_json))


async def _runs(url: str | None, query: Mapping[str, Any], *, as_json: bool) -> None:
    async with connect(url) as client:
        answer = await client.get("list_runs", **query)
    if as_json:
        print_json(answer)
        return
    try:
        runs = [RunRecord.model_validate(one) for one in answer["data"]]
    except (ValidationError, KeyError, TypeError):
        raise client.unexpected_response() from None
    if runs:
        print_rows(
            HEADERS, [_row(run) for run in runs], key_column="run", optional_columns=("model", "trigger", "run")
        )
    else:
        console.print("No such runs are remembered.")


def _row(run: RunRecord) -> tuple[Any, ...]:
    trigger = run.trigger if run.attempt == 1 else f"{run.trigger}, attempt {run.attempt}"
    return (
        format_time(run.started_at), run.task_name, run.model_id, trigger, run.outcome, run.seconds,
        run.model_version, run.run_id, run.error,
    )  # fmt: skip


async def _run(url: str | None, run_id: str, *, as_json: bool) -> None:
    async with connect(url) as client:
        run = await client.get("get_run", run_id=run_id)
    if as_json:
        print_json(run)
    else:
        sys.stdout.writelines(f"{line}\n" for line in _outline(run))


def _outline(content: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Everything that is known, a line each; what belongs together is set in."""
    margin = "  " * depth
    for name, value in content.items():
        if value is None or value in ({}, []):
            continue
        if isinstance(value, dict):
            yield f"{margin}{one_line(name)}"
            yield from _outline(value, depth + 1)
        elif isinstance(value, list):
            yield f"{margin}{one_line(name)}"
            yield from (f"{margin}  {one_line(one)}" for one in value)
        else:
            yield f"{margin}{one_line(name)}: {one_line(value)}"
