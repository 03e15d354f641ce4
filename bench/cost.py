"""What a whole training costs by the number of rows: seconds and peak memory, as a table and a plot."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.child import NOTE
from bench.datasets import LARGEST, synthetic
from bench.plots import by_rows
from bench.report import report_rows, turned
from bench.rows import n_rows, rounds
from bench.training import row_of, whole


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
    by_rows("cost", {"seconds of a whole training": seconds, "peak memory, MiB": memory})


def _seconds(tried: Sequence[Mapping[str, float]]) -> float:
    return median(one["total"] for one in tried)
