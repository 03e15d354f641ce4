"""One measurement in a fresh process: its seconds after all imports, and the most memory that it ever had."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

THREADS = int(os.environ.get("RECSERVER_BENCH_THREADS", os.cpu_count() or 1))
"""Threads that any library may use in what is measured."""

LIMITED = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS",
    "LK_NUM_THREADS",
)  # fmt: skip
NOTE = f"each in a fresh process after its imports, {THREADS} threads ({', '.join(LIMITED)})"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a child found.

    Attributes:
        seconds: that the work took.
        cpu: seconds of processor time that it took, of all threads together.
        peak: MiB of resident memory, the interpreter and all libraries included.
        answer: what the work returned; if that is to be called, what came of it, which is not measured.
    """

    seconds: float
    cpu: float
    peak: float
    answer: Any


async def measured(
    work: str, *arguments: object, limit: float | None = None, python: str = sys.executable
) -> Measured:
    """Have ``module:function`` prepare something with ``arguments``, and time what it returns.

    Args:
        limit: seconds that the process may live.
        python: interpreter that has what the work needs.

    Raises:
        TimeoutError: if it lived longer, and was ended.
        RuntimeError: if it failed.
    """
    process = await asyncio.create_subprocess_exec(
        python,
        "-m",
        "bench.child",
        work,
        *map(str, arguments),
        stdout=PIPE,
        env={**os.environ, **dict.fromkeys(LIMITED, str(THREADS))},
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), limit)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{work} ended with status {process.returncode}")
    return Measured(**json.loads(said.splitlines()[-1]))


def seconds_of(work: str, *arguments: object) -> Callable[[], Awaitable[float]]:
    """For :func:`bench.report.alternate`, where only the seconds count."""

    async def measure() -> float:
        return (await measured(work, *arguments)).seconds

    return measure


def main() -> None:
    work, *arguments = sys.argv[1:]
    module, _, name = work.partition(":")
    call = getattr(import_module(module), name)(*arguments)
    gc.collect()
    start, cpu = time.perf_counter(), time.process_time()
    answer = call()
    found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "peak": peak()}
    print(json.dumps(found | {"answer": answer() if callable(answer) else answer}))


def peak() -> float:
    """MiB. Linux counts what the parent had into ``ru_maxrss``, so its own record is asked first."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
