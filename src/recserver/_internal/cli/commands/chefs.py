"""``recserver chefs``: list and preview data chefs without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from rich.text import Text
from stamina.instrumentation import set_on_retry_hooks
from typer import Argument, Option

from recserver._internal.chefs.chef_store import ChefStore, Entries
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.cli.command import AsJson, ExistingFolder, checked_by, command, new_app
from recserver._internal.cli.commands import chef_changes
from recserver._internal.cli.data_folder import require_folder
from recserver._internal.cli.output import cell, console, print_json, print_line
from recserver._internal.core.errors import InvalidInput, escape, quoted
from recserver._internal.core.validation.values import parse_count
from recserver._internal.server.service.chef_key_warnings import key_warnings
from recserver._internal.server.service.chef_requests import display_entry
from recserver._internal.server.settings import load_settings
from recserver._internal.training.jobs import Preview, PreviewJob
from recserver._internal.training.preview.source_preview import preview

COLUMN_WIDTH = 16
"""Average width of a column in characters. It decides how many columns a preview shows."""

app = new_app("chefs", "List and preview data chefs; add and delete those of a running server.")
chef_changes.add_commands(app)


@command(app, "list")
def list_chefs(data: ExistingFolder = Path("data"), as_json: AsJson = False) -> None:
    """Show all data chefs of a data folder, with secrets masked."""
    entries, policy = _load_entries(data)
    shown = {chef_id: display_entry(entry, policy) for chef_id, entry in entries.items()}
    if as_json:
        print_json(shown)
        return
    if not shown:
        print_line(f"There are no data chefs in {data}.")
        return
    table = Table("id", "type", "reads", "rename_columns")
    for chef_id, entry in shown.items():
        source = entry.get("path") or entry.get("query") or entry.get("url")
        table.add_row(*map(cell, (chef_id, entry["type"], source, entry["rename_columns"])))
    console.print(table)
    for chef_id, entry in shown.items():
        errors = [entry["error"]] if entry.get("error") else []
        _print_lines(f"{chef_id}: {sentence}" for sentence in (*errors, *entry.get("warnings", ())))


@command(app, "preview")
def preview_chef(
    data_chef_id: Annotated[str, Argument(metavar="ID", help="The data chef.")],
    data: ExistingFolder = Path("data"),
    rows: Annotated[int, Option(callback=checked_by(parse_count), help="Number of rows to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the first rows of a source, before and after renaming, and suggested changes.

    This process reads the source; a running server is not disturbed.
    """
    set_on_retry_hooks(())  # no log lines about retries: the error says how many attempts there were
    entries, policy = _load_entries(data)
    if data_chef_id not in entries:
        listed = ", ".join(map(quoted, entries)) or "none"
        raise InvalidInput(f"There is no data chef {quoted(data_chef_id)} in {data}; there are: {listed}.")
    result = preview(PreviewJob(data_chef=entries[data_chef_id], policy=policy, rows=rows))
    warnings = key_warnings(entries[data_chef_id])
    if as_json:
        print_json(result.model_dump() | ({"warnings": warnings} if warnings else {}))
    else:
        _print_preview(result)
        _print_lines(f"warning: {warning}" for warning in warnings)


def _load_entries(data: Path) -> tuple[Entries, SourcePolicy]:
    """The data chef entries of a data folder, and what the chefs may access."""
    folder = require_folder(data)
    entries = asyncio.run(ChefStore(folder / "config" / "restaurant_data.yaml").read())
    return entries, load_settings().source_policy(folder)


def _print_preview(preview: Preview) -> None:
    console.print(_rows_table("Source rows", preview.raw))
    console.print(_rows_table("Training rows", preview.renamed))
    rejected = sum(preview.rejected.values())
    console.print(f"{preview.rows_read} rows read" + (f", {rejected} of them rejected." if rejected else "."))
    if preview.rejected:
        table = Table("reason", "rows", "example", title="Rejected rows", title_justify="left")
        for reason, count in preview.rejected.items():
            table.add_row(cell(reason), str(count), Text(escape(preview.examples.get(reason, ""))))
        console.print(table)
    _print_lines(
        f"Rows where the {reason} (it counts as 1): {count}" for reason, count in preview.replaced.items()
    )
    console.print()
    _print_lines(f"-> {suggestion}" for suggestion in preview.suggestions)


def _print_lines(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print_line(sentence)


def _rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of as many columns as fit the terminal, the required ones first."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    max_columns = max(2, console.width // COLUMN_WIDTH)
    required = [name for name in ("user_id", "item_id", "rating", "_rejected") if name in names]
    others = [name for name in names if name not in required][: max(0, max_columns - len(required))]
    shown = [name for name in names if name in {*required, *others}]
    table = Table(title=title, title_justify="left")
    for name in shown:
        table.add_column(cell(name), overflow="fold")
    if len(shown) < len(names):
        table.caption = f"and {len(names) - len(shown)} more columns; --json shows all"
    for row in rows:
        table.add_row(*(cell(row[name]) if name in row else Text() for name in shown))
    return table
