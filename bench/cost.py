"""What a whole training costs by the number of rows: seconds and peak memory, as a table and a plot."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path
from statistics import median

from bench.child import NOTE
from bench.datasets import LARGEST, synthetic
from bench.report import RESULTS, report_rows, turned
from bench.rows import n_rows, rounds
from bench.training import row_of, whole

LEFT, TOP, WIDTH, HEIGHT, APART = 70, 40, 340, 260, 110
COLOURS = "#1b6ca8", "#777777"


async def main() -> None:
    largest = n_rows(LARGEST)
    counts = [largest // 100, largest // 10, largest]
    files = {count: await synthetic(count) for count in counts}
    found: dict[int, list[dict[str, object]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds(3)):
            for count, csv in files.items():
                found[count].append(await whole(csv, "nmf", {}, Path(folder) / "model"))
    rows = [
        row_of({"rows": count, **tried[0]["counts"]}, tried) | {"s a million rows": _seconds(tried) / count * 1e6}
        for count, tried in found.items()
    ]
    note = f"{NOTE}; nmf by default, from the file to the packed model; medians of {rounds(3)} rounds"
    report_rows("cost: whole trainings by rows", turned(rows), note)
    seconds = {count: _seconds(tried) for count, tried in found.items()}
    memory = {count: median(one["peak"] for one in tried) for count, tried in found.items()}
    path = RESULTS / "cost.svg"
    path.write_text(svg({"seconds of a whole training": seconds, "peak memory, MiB": memory}))
    print(f"The plot is {path}.")


def _seconds(tried: Sequence[Mapping[str, float]]) -> float:
    return median(one["total"] for one in tried)


def svg(panels: Mapping[str, Mapping[int, float]]) -> str:
    """A panel for each title, side by side: values by rows, both logarithmic, and a line of equal cost a row."""
    width = LEFT + len(panels) * (WIDTH + APART)
    height = TOP + HEIGHT + 60
    drawn = [
        panel
        for number, (title, values) in enumerate(panels.items())
        for panel in _panel(title, values, LEFT + number * (WIDTH + APART))
    ]
    style = 'font-family="sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {style}>'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *drawn, "</svg>"]) + "\n"


def _panel(title: str, values: Mapping[int, float], left: int) -> list[str]:
    most, largest = max(values), values[max(values)]
    linear = {count: largest * count / most for count in values}
    columns = _Axis(list(values), left, left + WIDTH)
    lines = _Axis([*values.values(), *linear.values()], TOP + HEIGHT, TOP)
    drawn = [f'<text x="{left + WIDTH / 2}" y="{TOP - 16}" text-anchor="middle" font-weight="bold">{title}</text>']
    for value in columns.ticks():
        x = columns(value)
        drawn.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{TOP + HEIGHT}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{value:,.0f}</text>')
    for value in lines.ticks():
        y = lines(value)
        drawn.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        drawn.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{value:,g}</text>')
    drawn.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 42}" text-anchor="middle">rows</text>')
    for colour, shown, dashes in ((COLOURS[1], linear, "5 4"), (COLOURS[0], values, "none")):
        points = " ".join(f"{columns(count)},{lines(value)}" for count, value in shown.items())
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
                     f'stroke-dasharray="{dashes}"/>')  # fmt: skip
    for count, value in values.items():
        x, y = columns(count), lines(value)
        drawn.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{COLOURS[0]}"/>')
        drawn.append(f'<text x="{x}" y="{y - 10}" text-anchor="middle" fill="{COLOURS[0]}">{value:,.3g}</text>')
    note = "dashed: equal cost a row"
    drawn.append(f'<text x="{left + 8}" y="{TOP + 16}" fill="{COLOURS[1]}">{note}</text>')
    return drawn


class _Axis:
    """From a value to a place, by its logarithm; whole powers of ten at both ends."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = floor(log10(min(values))), ceil(log10(max(values)))
        self._high += self._low == self._high
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (log10(value) - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]
