"""Rounds, medians, tables and JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


async def alternate(rounds: int, measures: Mapping[str, Callable[[], Awaitable[float]]]) -> dict[str, list[float]]:
    """Measure each in turn, ``rounds`` times over: what drifts, drifts for all of them."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(await measure())
    return found


def report(title: str, unit: str, found: Mapping[str, list[float]], note: str = "") -> None:
    """Print a table of medians, each also as a ratio to the first row, and write it to ``results/``."""
    medians = {name: statistics.median(values) for name, values in found.items()}
    base = next(iter(medians.values()))
    table = Table("", f"median, {unit}", "lowest", "highest", "to the first", title=title)
    for name, values in found.items():
        figures = medians[name], min(values), max(values)
        table.add_row(name, *(f"{one:,.4g}" for one in figures), f"{medians[name] / base:.2f}")
    console = Console()
    console.print(table)
    if note:
        console.print(note)
    _write(title, {"unit": unit, "rounds": found, "medians": medians, "note": note})


def report_rows(title: str, rows: Sequence[Mapping[str, object]], note: str = "") -> None:
    """Print a table with a line for each of ``rows``, which have the same keys, and write it to ``results/``."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(shown, row.values()))
    console = Console()
    console = Console(width=max(console.width, 160))
    console.print(table)
    if note:
        console.print(note)
    _write(title, {"rows": list(rows), "note": note})


def turned(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """A line for each column, for tables with many; what stands first in ``rows`` becomes the columns."""
    first, *others = rows[0]
    return [{"": name, **{shown(row[first]): row[name] for row in rows}} for name in others]


def shown(value: object) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:,.4g}"  # noqa: PLR0124 - not a number
    return f"{value:,}" if isinstance(value, int) else str(value)


def _write(title: str, content: Mapping[str, object]) -> None:
    RESULTS.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    name = title.partition(":")[0].replace(" ", "_")
    everything = {"title": title, **content, "machine": machine}
    (RESULTS / f"{name}.json").write_text(json.dumps(everything, indent=2) + "\n")
