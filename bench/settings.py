"""Settings of the benchmarks that are read from the environment."""

from __future__ import annotations

import os


def n_rows(default: int) -> int:
    """The number of rows to measure with: ``RECSERVER_BENCH_ROWS``, or the default."""
    return int(os.environ.get("RECSERVER_BENCH_ROWS", default))


def rounds(default: int) -> int:
    """The number of times to repeat each measurement: ``RECSERVER_BENCH_ROUNDS``, or the default."""
    return int(os.environ.get("RECSERVER_BENCH_ROUNDS", default))
