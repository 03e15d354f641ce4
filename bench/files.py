"""A large CSV file with ids of text, to compressed sparse rows: seconds and memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from bench.beside import while_reading
from bench.child import NOTE, measured
from bench.readers import FEW
from bench.report import RESULTS, alternate, report
from bench.rows import n_rows, rounds, write_csv

ROWS = 10_000_000


async def main() -> None:
    path = csv_file()
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.csv"
        few.write_text(FEW)
        await _compare(path, (folder, _entry(path), _entry(few)))
    await while_reading("files", json.loads(_entry(path)))


async def _compare(path: Path, ours: tuple[str, str, str]) -> None:
    peaks: dict[str, list[float]] = {}
    counts: set[tuple[int, ...]] = set()
    works = {"collect()": ("bench.sources:collecting", *ours), "pandas": ("bench.readers:with_pandas", path),
             "pyarrow": ("bench.readers:with_pyarrow", path)}  # fmt: skip
    if find_spec("polars"):
        works["polars, Arrow's dictionaries"] = "bench.readers:with_polars", path
        works["polars, categories"] = "bench.readers:with_polars_categories", path

    def measure(name: str) -> Callable[[], Awaitable[float]]:
        async def one() -> float:
            found = await measured(*works[name])
            peaks.setdefault(name, []).append(found.peak)
            counts.add(tuple(found.answer))
            return found.seconds

        return one

    seconds = await alternate(rounds(5), {name: measure(name) for name in works})
    if len(counts) > 1:
        raise AssertionError(f"they read different things: {counts}")
    ours_took, *others_took = map(median, seconds.values())
    note = (f"{NOTE}; rows, users, items: {counts.pop()}; the others judge nothing; "
            f"collect() takes {ours_took / min(others_took):.2f} times as long as the quickest")  # fmt: skip
    if len(works) == 3:
        note += "; polars is not installed: uv sync --group bench"
    title = "a CSV file with ids of text, to CSR"
    report(f"files seconds: {title}", "s", seconds, note)
    report(f"files memory: {title}, most memory of the process", "MiB", peaks, note)


def csv_file() -> Path:
    """``RECSERVER_BENCH_CSV``, or a file that is made once and kept among the results."""
    if given := os.environ.get("RECSERVER_BENCH_CSV"):
        return Path(given).resolve()
    count = n_rows(ROWS)
    path = RESULTS.resolve() / "data" / f"rows-{count}.csv"
    if not path.exists():
        write_csv(path, count)
    return path


def _entry(path: Path) -> str:
    entry: dict[str, Any] = {"type": "csv", "path": str(path)}
    return json.dumps(entry)
