"""The files that algorithms are compared on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from bench.child import measured
from bench.report import RESULTS
from bench.rows import n_rows

LARGEST = 10_000_000
"""Rows of the largest file, a tenth of which are compared on, unless ``RECSERVER_BENCH_ROWS`` says otherwise."""
PARTS = "ml-latest-small,synthetic,given,large"


def parts() -> list[str]:
    """Which parts to measure: all, or those in ``RECSERVER_BENCH_PARTS``."""
    return os.environ.get("RECSERVER_BENCH_PARTS", PARTS).split(",")


async def files() -> AsyncIterator[tuple[str, Path]]:
    """The names of the data sets to measure with, and their files; a line for what is not there."""
    for part in parts():
        if part == "ml-latest-small":
            if folder := os.environ.get("RECSERVER_TEST_DATA"):
                yield part, _absolute(folder) / part / "ratings.csv"
            else:
                print(f"{part} is left out: RECSERVER_TEST_DATA is not set.")
        elif part == "synthetic":
            count = n_rows(LARGEST) // 10
            yield f"synthetic {count}", await synthetic(count)
        elif part == "given" and (given := os.environ.get("RECSERVER_BENCH_CSV")):
            yield Path(given).stem, _absolute(given)


def shape(count: int) -> tuple[int, int]:
    """Users and items that go with so many rows: 150,000 and 25,000 with 10 million, fewer with fewer."""
    share = count / LARGEST
    return max(50, round(150_000 * share**0.87)), max(40, round(25_000 * share**0.5))


async def synthetic(count: int) -> Path:
    """A file that is made once and kept among the results."""
    path = RESULTS.resolve() / "data" / f"tastes-{count}.csv"
    if not path.exists():
        await measured("bench.tastes:writing", path, count, *shape(count))
    return path


def _absolute(path: str) -> Path:
    return Path(path).resolve()
