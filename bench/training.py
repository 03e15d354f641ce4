"""Algorithms side by side on several data sets, each in a fresh process; and whole trainings on a large one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.candidates import LIMIT, METRICS, Outcomes, candidates, in_words, lenskit
from bench.child import NOTE, measured
from bench.datasets import LARGEST, files, parts, synthetic
from bench.report import report_rows, turned
from bench.rows import n_rows, rounds

SEEDS = (101, 102, 103, 104, 105)
"""Of the hold-outs: nothing was tuned on any of these."""
LARGE = {
    "nmf, k=64": ("nmf", {"n_components": 64}),
    "nmf": ("nmf", {}),
    "popular": ("popular", {}),
}


async def main() -> None:
    if not lenskit():
        print("LensKit is left out: RECSERVER_BENCH_LENSKIT names no interpreter that has it.")
    async for name, path in files():
        await _compare(name, path)
    if "large" in parts():
        await _whole(await synthetic(n_rows(LARGEST)))


async def _compare(name: str, csv: Path) -> None:
    """One table: every candidate, on a hold-out a seed."""
    compared = candidates()
    outcomes = {candidate.name: Outcomes() for candidate in compared}
    way = os.environ.get("RECSERVER_BENCH_SPLIT", "random")
    seeds, counts = SEEDS[: rounds(2)], dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        split = Path(folder) / "split.npz"
        for seed in seeds:
            counts = (await measured("bench.splits:splitting", csv, split, seed, way)).answer
            for candidate in compared:
                await outcomes[candidate.name].measure(candidate, split)
    held = "a random fifth" if way == "random" else "the latest fifth"
    note = (
        f"{NOTE}; {in_words(counts)}; {held} of each user's pairs held out, seeds {seeds}: means of the metrics, "
        f"medians of the rest; at most {LIMIT:g} s a fit. Ours choose by what they may learn from, the grids of "
        "the others by the test pairs, in their favour; their seconds are those of the best setting alone."
    )
    by_time = "" if way == "random" else " by time"
    rows = [outcomes[candidate.name].row(candidate) for candidate in compared]
    report_rows(f"training {name}{by_time}: choosing and fitting on {counts['pairs']:,} pairs", rows, note)


async def _whole(csv: Path) -> None:
    """Trainings from the file to the packed model, in turn."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in LARGE}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds(1)):
            for name, (method, given) in LARGE.items():
                found[name].append(await whole(csv, method, given, Path(folder) / "model"))
    rows = [row_of({"": name}, tried) for name, tried in found.items()]
    counts = in_words(next(iter(found.values()))[0]["counts"])
    note = f"{NOTE}; {counts}; from the file to the packed model, evaluated on the hold-out of a training"
    report_rows(f"training large: whole trainings on {csv.name}", turned(rows), note)


async def whole(csv: Path, method: str, given: dict[str, Any], out: Path) -> dict[str, Any]:
    """One whole training: its answer with ``total``, ``cpu`` and ``peak``."""
    one = await measured("bench.methods:training", csv, method, json.dumps(given), out)
    peak = max(one.peak, *one.answer["peaks"].values())
    return {**one.answer, "total": one.seconds, "cpu": one.cpu, "peak": peak}


def row_of(first: dict[str, object], tried: list[dict[str, Any]]) -> dict[str, object]:
    """A line on trainings that were repeated: medians."""

    def middle(value: Callable[[dict[str, Any]], float]) -> float:
        return median(map(value, tried))

    stages = tried[0]["seconds"]
    return {
        **first,
        "s": middle(lambda one: one["total"]),
        **{f"{stage}, s": middle(lambda one, stage=stage: one["seconds"][stage]) for stage in stages},
        "CPU s": middle(lambda one: one["cpu"]),
        "MiB": middle(lambda one: one["peak"]),
        **{f"{stage}, MiB": middle(lambda one, stage=stage: one["peaks"][stage]) for stage in tried[0]["peaks"]},
        **{name: middle(lambda one, key=key: one.get(key, float("nan"))) for name, key in METRICS.items()},
        "setting": in_words(tried[0]["setting"]),
    }
