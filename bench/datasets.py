"""The data sets that algorithms are compared on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from bench.fresh_process import measure_in_process
from bench.report import RESULTS
from bench.settings import n_rows

MAX_ROWS = 10_000_000
"""Rows of the largest data set, unless ``RECSERVER_BENCH_ROWS`` is set; ``synthetic`` has a tenth of them."""
PARTS = "ml-latest-small,synthetic,given,large"


def parts() -> list[str]:
    """The parts to measure: ``RECSERVER_BENCH_PARTS``, or all."""
    return os.environ.get("RECSERVER_BENCH_PARTS", PARTS).split(",")


async def datasets() -> AsyncIterator[tuple[str, Path]]:
    """Names and files of the data sets to measure with; prints a message for one that is missing."""
    for part in parts():
        if part == "ml-latest-small":
            if folder := os.environ.get("RECSERVER_TEST_DATA"):
                yield part, _absolute(folder) / part / "ratings.csv"
            else:
                print(f"{part} is skipped: RECSERVER_TEST_DATA is not set.")
        elif part == "synthetic":
            count = n_rows(MAX_ROWS) // 10
            yield f"synthetic {count}", await synthetic(count)
        elif part == "given" and (given := os.environ.get("RECSERVER_BENCH_CSV")):
            yield Path(given).stem, _absolute(given)


def shape(count: int) -> tuple[int, int]:
    """The numbers of users and items for a number of rows: 150,000 and 25,000 for 10 million."""
    share = count / 10_000_000
    return max(50, round(150_000 * share**0.87)), max(40, round(25_000 * share**0.5))


async def synthetic(count: int) -> Path:
    """A generated CSV file of :mod:`bench.topic_interactions`, which is reused by later runs."""
    path = RESULTS.resolve() / "data" / f"synthetic-{count}.csv"
    if not path.exists():
        await measure_in_process("bench.topic_interactions:write_topic_csv", path, count, *shape(count))
    return path


def _absolute(path: str) -> Path:
    return Path(path).resolve()
