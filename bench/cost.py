"""Time and peak memory of a whole training by the number of rows, as a table and a plot."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.datasets import MAX_ROWS, synthetic
from bench.fresh_process import NOTE
from bench.plots import plot_by_rows
from bench.report import report_rows, transpose
from bench.settings import n_rows, rounds
from bench.training import measure_training, training_row


async def main() -> None:
    largest = n_rows(MAX_ROWS)
    counts = [largest // 100, largest // 10, largest]
    files = {count: await synthetic(count) for count in counts}
    trainings: dict[int, list[dict[str, object]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds(3)):
            for count, csv in files.items():
                trainings[count].append(await measure_training(csv, "nmf", {}, Path(folder) / "model"))
    rows = [
        training_row({"rows": count, **repeats[0]["counts"]}, repeats)
        | {"s per million rows": _seconds(repeats) / count * 1e6}
        for count, repeats in trainings.items()
    ]
    note = (
        f"{NOTE}; nmf with default hyperparameters, from the file to the packed model; "
        f"medians of {rounds(3)} rounds"
    )
    report_rows("cost: time and memory of a whole training by rows", transpose(rows), note)
    seconds = {count: _seconds(repeats) for count, repeats in trainings.items()}
    memory = {count: median(training["peak"] for training in repeats) for count, repeats in trainings.items()}
    plot_by_rows("cost", {"seconds of a whole training": seconds, "peak memory, MiB": memory})


def _seconds(repeats: Sequence[Mapping[str, float]]) -> float:
    return median(training["total"] for training in repeats)
