"""Measure one function call in a fresh process: wall time without imports, processor time and peak memory."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bench.memory import peak_mib

THREADS = int(os.environ.get("RECSERVER_BENCH_THREADS", os.cpu_count() or 1))
"""The number of threads that any measured library may use."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS",
    "LK_NUM_THREADS",
)  # fmt: skip
NOTE = f"each in a fresh process, without imports; {THREADS} threads ({', '.join(THREAD_VARIABLES)})"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one call took.

    Attributes:
        seconds: wall time of the call.
        cpu: processor time of the call in seconds, all threads together.
        peak: peak resident memory of the whole process in MiB, the interpreter and all libraries included.
        result: what the call returned. If that is a function, what the function returned, which is not timed.
    """

    seconds: float
    cpu: float
    peak: float
    result: Any


async def measure_in_process(
    function: str, *arguments: object, limit: float | None = None, python: str = sys.executable
) -> Measurement:
    """Run a setup function in a fresh process, and measure the call of the function that it returns.

    Args:
        function: the setup function, as ``module:function``.
        arguments: of the setup function, passed as strings.
        limit: the maximum lifetime of the process in seconds.
        python: the interpreter to run.

    Raises:
        TimeoutError: if the process exceeded the limit and was killed.
        RuntimeError: if the process failed.
    """
    process = await asyncio.create_subprocess_exec(
        python,
        "-m",
        "bench.fresh_process",
        function,
        *map(str, arguments),
        stdout=PIPE,
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(THREADS))},
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), limit)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{function} ended with status {process.returncode}")
    return Measurement(**json.loads(output.splitlines()[-1]))


def seconds_of(function: str, *arguments: object) -> Callable[[], Awaitable[float]]:
    """The wall time of :func:`measure_in_process`, for :func:`bench.report.measure_round_robin`."""

    async def measure() -> float:
        return (await measure_in_process(function, *arguments)).seconds

    return measure


def main() -> None:
    function, *arguments = sys.argv[1:]
    module, _, name = function.partition(":")
    call = getattr(import_module(module), name)(*arguments)
    gc.collect()
    start, cpu = time.perf_counter(), time.process_time()
    result = call()
    times = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "peak": peak_mib()}
    print(json.dumps(times | {"result": result() if callable(result) else result}))


if __name__ == "__main__":
    main()
