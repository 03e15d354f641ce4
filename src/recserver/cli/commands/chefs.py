"""``recserver chefs``: data chefs looked at without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from recserver.chefs.chef_store import ChefStore, Entries
from recserver.chefs.source_policy import SourcePolicy
from recserver.cli.data_folder import require_folder
from recserver.cli.output import cell, console, exit_on_error, print_json, printable
from recserver.core.errors import InvalidInput, quoted
from recserver.server.settings import load_settings
from recserver.training.jobs import Preview, PreviewJob

COLUMN_WIDTH = 16
"""Characters that a column takes on average; what does not fit beside the others is counted, not shown."""


def list_chefs(data: Path, *, as_json: bool) -> None:
    """Show every data chef of the folder ``data``, secrets masked."""
    with exit_on_error():
        from recserver.server.service.chef_requests import display_entry

        entries, policy = _load_entries(data)
        listed = {name: display_entry(entry, policy) for name, entry in entries.items()}
        if as_json:
            print_json(listed)
        elif not listed:
            console.print(f"There are no data chefs in {data}.", markup=False)
        else:
            table = Table("id", "type", "reads", "rename_columns")
            for name, entry in listed.items():
                source = entry.get("path") or entry.get("query") or entry.get("url")
                table.add_row(*map(cell, (name, entry["type"], source, entry["rename_columns"])))
            console.print(table)
            for name, entry in listed.items():
                _print_lines(
                    f"{name}: {one}" for one in (*filter(None, [entry.get("error")]), *entry.get("warnings", ()))
                )


def preview_chef(data: Path, data_chef_id: str, *, rows: int, as_json: bool) -> None:
    """Show the first rows of one data chef's source, read in this process."""
    with exit_on_error():
        from stamina.instrumentation import set_on_retry_hooks

        from recserver.server.service.unknown_chef_keys import key_warnings
        from recserver.training.preview.source_preview import preview

        set_on_retry_hooks(())  # the error says how often a source was tried; standard output is for the rows
        entries, policy = _load_entries(data)
        if data_chef_id not in entries:
            known = ", ".join(map(quoted, entries)) or "none"
            raise InvalidInput(f"There is no data chef {quoted(data_chef_id)} in {data}; there are: {known}.")
        seen = preview(PreviewJob(data_chef=entries[data_chef_id], policy=policy, rows=rows))
        warnings = key_warnings(entries[data_chef_id])
        if as_json:
            print_json(seen.model_dump() | ({"warnings": warnings} if warnings else {}))
        else:
            _print_preview(seen)
            _print_lines(f"warning: {one}" for one in warnings)


def _load_entries(data: Path) -> tuple[Entries, SourcePolicy]:
    """The entries of a data folder, and what its chefs may reach."""
    folder = require_folder(data)
    entries = asyncio.run(ChefStore(folder / "config" / "restaurant_data.yaml").read())
    return entries, load_settings().source_policy(folder)


def _print_preview(preview: Preview) -> None:
    console.print(_rows_table("As the source has them", preview.raw))
    console.print(_rows_table("As a training takes them", preview.renamed))
    bad = sum(preview.rejected.values())
    console.print(f"{preview.rows_read} rows were read." + (f" {bad} of them would be left out." if bad else ""))
    if preview.rejected:
        table = Table("left out because", "rows", "such as", title="Bad rows", title_justify="left")
        for reason, count in preview.rejected.items():
            table.add_row(cell(reason), str(count), Text(printable(preview.examples.get(reason, ""))))
        console.print(table)
    _print_lines(
        f"In {count} of them the {reason}, so that it counts 1." for reason, count in preview.replaced.items()
    )
    console.print()
    _print_lines(f"-> {one}" for one in preview.suggestions)


def _print_lines(sentences: Iterable[str]) -> None:
    for one in sentences:
        console.print(printable(one), markup=False)


def _rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    fitting = max(2, console.width // COLUMN_WIDTH)
    first = [name for name in ("user_id", "item_id", "rating", "_rejected") if name in names]
    kept = {*first, *[name for name in names if name not in first][: max(0, fitting - len(first))]}
    table = Table(title=title, title_justify="left")
    for name in (name for name in names if name in kept):
        table.add_column(cell(name), overflow="fold")
    if len(kept) < len(names):
        table.caption = f"and {len(names) - len(kept)} more columns; --json shows all"
    for row in rows:
        table.add_row(*(cell(row[name]) if name in row else Text() for name in names if name in kept))
    return table
