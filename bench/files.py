"""Reading a large CSV file with text ids into compressed sparse rows (CSR): seconds and peak memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench.csv_readers import SMALL_CSV
from bench.fresh_process import NOTE, measure_in_process
from bench.random_interactions import write_csv
from bench.report import RESULTS, measure_round_robin, report
from bench.serving_latency import measure_while_reading
from bench.settings import n_rows, rounds

ROWS = 10_000_000


async def main() -> None:
    path = csv_file()
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.csv"
        small.write_text(SMALL_CSV)
        await _compare(path, (folder, _entry(path), _entry(small)))
    await measure_while_reading("files", json.loads(_entry(path)))


async def _compare(path: Path, chef_arguments: tuple[str, str, str]) -> None:
    peaks: dict[str, list[float]] = {}
    counts: set[tuple[int, ...]] = set()
    functions = {
        "collect()": ("bench.chef_reading:collect_interactions", *chef_arguments),
        "pandas": ("bench.csv_readers:with_pandas", path),
        "pyarrow": ("bench.csv_readers:with_pyarrow", path),
    }
    if find_spec("polars"):
        functions["polars, dictionary_encode"] = "bench.csv_readers:with_polars", path
        functions["polars, categoricals"] = "bench.csv_readers:with_polars_categories", path

    def measure(name: str) -> Callable[[], Awaitable[float]]:
        async def read() -> float:
            measurement = await measure_in_process(*functions[name])
            peaks.setdefault(name, []).append(measurement.peak)
            counts.add(tuple(measurement.result))
            return measurement.seconds

        return read

    seconds = await measure_round_robin(rounds(5), {name: measure(name) for name in functions})
    if len(counts) > 1:
        raise AssertionError(f"the readers disagree on the numbers of rows, users and items: {counts}")
    collect_seconds, *other_seconds = map(median, seconds.values())
    ratio = collect_seconds / min(other_seconds)
    note = (
        f"{NOTE}; rows, users, items: {counts.pop()}; the other libraries do not validate rows; "
        f"collect() takes {ratio:.2f} times as long as the fastest other library"
    )
    if len(functions) == 3:
        note += "; polars is not installed: uv sync --group bench"
    title = "reading a CSV file with text ids into CSR"
    report(f"files seconds: {title}", "s", seconds, note)
    report(f"files memory: {title}, peak memory", "MiB", peaks, note)


def csv_file() -> Path:
    """``RECSERVER_BENCH_CSV``, or a generated file, which is reused by later runs."""
    if given := os.environ.get("RECSERVER_BENCH_CSV"):
        return Path(given).resolve()
    count = n_rows(ROWS)
    path = RESULTS.resolve() / "data" / f"rows-{count}.csv"
    if not path.exists():
        write_csv(path, count)
    return path


def _entry(path: Path) -> str:
    return json.dumps({"type": "csv", "path": str(path)})
