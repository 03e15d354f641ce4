"""Repeated measurements, tables of their medians, and JSON files."""

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


async def measure_round_robin(
    rounds: int, measures: Mapping[str, Callable[[], Awaitable[float]]]
) -> dict[str, list[float]]:
    """Call each measure once a round, so that changes of the machine's speed affect all of them alike."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            values[name].append(await measure())
    return values


def report(title: str, unit: str, values: Mapping[str, list[float]], note: str = "") -> None:
    """Print a table of medians and their ratios to the first row, and write the values to ``results/``.

    The part of the title before the colon is the name of the JSON file.
    """
    table = Table("", f"median, {unit}", "min", "max", "ratio", title=title)
    for row in summary_rows(values):
        table.add_row(*row)
    _print(Console(), table, note)
    medians = {name: statistics.median(each) for name, each in values.items()}
    _write_json(title, {"unit": unit, "rounds": values, "medians": medians, "note": note})


def summary_rows(values: Mapping[str, list[float]]) -> list[tuple[str, ...]]:
    """Name, median, minimum, maximum and the ratio of the median to the first one, formatted."""
    baseline = statistics.median(next(iter(values.values())))
    return [
        (
            name,
            *(format_value(float(value)) for value in (statistics.median(each), min(each), max(each))),
            f"{statistics.median(each) / baseline:.2f}",
        )
        for name, each in values.items()
    ]


def report_rows(title: str, rows: Sequence[Mapping[str, object]], note: str = "") -> None:
    """Print a table of rows with the same keys, and write them to ``results/``."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(format_value, row.values()))
    _print(Console(width=max(Console().width, 160)), table, note)
    _write_json(title, {"rows": list(rows), "note": note})


def transpose(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Turn columns into rows, for tables with many columns; the first column becomes the header."""
    first, *others = rows[0]
    return [{"": name, **{format_value(row[first]): row[name] for row in rows}} for name in others]


def format_value(value: object) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:,.4g}"  # noqa: PLR0124 - not a number
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print(console: Console, table: Table, note: str) -> None:
    console.print(table)
    if note:
        console.print(note)


def _write_json(title: str, content: Mapping[str, object]) -> None:
    RESULTS.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    name = title.partition(":")[0].replace(" ", "_")
    report = {"title": title, **content, "machine": machine}
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
