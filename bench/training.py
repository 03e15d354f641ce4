"""Ranking metrics and cost of algorithms on several data sets; and whole trainings on a large one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.compared_algorithms import (
    LIMIT,
    METRICS,
    GridResults,
    compared_algorithms,
    format_setting,
    lenskit_python,
)
from bench.datasets import MAX_ROWS, datasets, parts, synthetic
from bench.fresh_process import NOTE, measure_in_process
from bench.report import report_rows, transpose
from bench.settings import n_rows, rounds

SEEDS = (101, 102, 103, 104, 105)
"""Seeds of the splits; the defaults were not tuned on any of them."""
LARGE = {
    "nmf, k=64": ("nmf", {"n_components": 64}),
    "nmf": ("nmf", {}),
    "popular": ("popular", {}),
}


async def main() -> None:
    if not lenskit_python():
        print("LensKit is skipped: RECSERVER_BENCH_LENSKIT is not set.")
    async for name, path in datasets():
        await _compare(name, path)
    if "large" in parts():
        await _compare_trainings(await synthetic(n_rows(MAX_ROWS)))


async def _compare(name: str, csv: Path) -> None:
    """Compare all algorithms on one data set, on one split for each seed."""
    algorithms = compared_algorithms()
    results = {algorithm.name: GridResults() for algorithm in algorithms}
    method = os.environ.get("RECSERVER_BENCH_SPLIT", "random")
    seeds, counts = SEEDS[: rounds(2)], dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        split = Path(folder) / "split.npz"
        for seed in seeds:
            counts = (await measure_in_process("bench.splits:write_split", csv, split, seed, method)).result
            for algorithm in algorithms:
                await results[algorithm.name].measure(algorithm, split)
    held_out = "a random fifth" if method == "random" else "the latest fifth"
    note = (
        f"{NOTE}; {format_setting(counts)}; {held_out} of each user's interactions held out, seeds {seeds}: means "
        f"of the metrics, medians of the rest; time limit of a fit: {LIMIT:g} s. recserver tunes on the training "
        "part, and its time includes tuning. Grids are searched on the test part, in their favour; their time is "
        "that of one fit with the best setting."
    )
    by_time = "" if method == "random" else " by time"
    rows = [results[algorithm.name].row(algorithm) for algorithm in algorithms]
    report_rows(f"training {name}{by_time}: ranking metrics and cost on {counts['pairs']:,} pairs", rows, note)


async def _compare_trainings(csv: Path) -> None:
    """Measure whole trainings, from the file to the packed model."""
    trainings: dict[str, list[dict[str, Any]]] = {name: [] for name in LARGE}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds(1)):
            for name, (algorithm, hyperparameters) in LARGE.items():
                trainings[name].append(
                    await measure_training(csv, algorithm, hyperparameters, Path(folder) / "model")
                )
    rows = [training_row({"": name}, repeats) for name, repeats in trainings.items()]
    counts = format_setting(next(iter(trainings.values()))[0]["counts"])
    note = f"{NOTE}; {counts}; from the file to the packed model, metrics of the training's own evaluation"
    report_rows(f"training large: time and memory of whole trainings on {csv.name}", transpose(rows), note)


async def measure_training(
    csv: Path, algorithm: str, hyperparameters: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Run one whole training; its result with ``total`` (seconds), ``cpu`` and ``peak``."""
    measurement = await measure_in_process(
        "bench.recserver_algorithms:run_training", csv, algorithm, json.dumps(hyperparameters), out
    )
    peak = max(measurement.peak, *measurement.result["peaks"].values())
    return {**measurement.result, "total": measurement.seconds, "cpu": measurement.cpu, "peak": peak}


def training_row(first: dict[str, object], repeats: list[dict[str, Any]]) -> dict[str, object]:
    """A table row with the medians of repeated trainings."""

    def median_of(value: Callable[[dict[str, Any]], float]) -> float:
        return median(map(value, repeats))

    stages = repeats[0]["seconds"]
    return {
        **first,
        "s": median_of(lambda one: one["total"]),
        **{f"{stage}, s": median_of(lambda one, stage=stage: one["seconds"][stage]) for stage in stages},
        "CPU s": median_of(lambda one: one["cpu"]),
        "MiB": median_of(lambda one: one["peak"]),
        **{
            f"{stage}, MiB": median_of(lambda one, stage=stage: one["peaks"][stage])
            for stage in repeats[0]["peaks"]
        },
        **{name: median_of(lambda one, key=key: one.get(key, float("nan"))) for name, key in METRICS.items()},
        "setting": format_setting(repeats[0]["setting"]),
    }
