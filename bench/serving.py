"""Throughput and latency of GET /recommend under load by wrk, compared with a bare aiohttp handler.

The bare handler sends a constant response of the same size. Each server runs in its own process, and wrk measures
them in turn. With 10,000 items, wrk is pinned to one core and the servers to another; with more, the servers may
use both, because they score in a thread.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median_high as median
from typing import NamedTuple

from aiohttp import web

from bench.datasets import synthetic
from bench.models import write_data_folder
from bench.plots import plot_bars
from bench.report import report_rows
from bench.serving_latency import measure_while_fitting
from bench.settings import rounds
from recserver import RecServer, Settings
from recserver._internal.recommend import pipeline
from recserver._internal.recommend.micro_batching import MicroBatcher
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import Answer
from recserver._internal.recommend.query import Query
from recserver._internal.server.workers.process_setup import freeze_gc

CONNECTIONS, SECONDS = 64, 3


class Figures(NamedTuple):
    """What wrk measured: throughput, and the median and 99th percentile of the latency in milliseconds."""

    requests_per_s: float
    p50: float
    p99: float


TRAINING_ROWS = 1_000_000
"""Rows of the data set of the concurrent training."""

USERS, CACHED_USERS = 2_000, 200
"""Users that are requested in turn: all, or few enough for the response cache."""

SCRIPT = """
local count = 0
request = function()
  count = count + 1
  return wrk.format("GET", string.format("/recommend?user_id=u%08d&model_id=bench&n=10", (count * 61) % {users}))
end
"""
BARE = "bare aiohttp handler"
MODES = {BARE: USERS, "cached": CACHED_USERS, "uncached": USERS, "uncached, unbatched": USERS}


async def main() -> None:
    if shutil.which("wrk") is None:
        print("serving: wrk is not installed.")
        return
    for items in (10_000, 100_000):
        results = await _measure(items)
        bare = results[BARE]
        rows = [
            {
                "responses": mode,
                "requests/s": median(each.requests_per_s for each in figures),
                "ratio to bare": median(
                    each.requests_per_s / base.requests_per_s for each, base in zip(figures, bare, strict=True)
                ),
                "p50 ms": median(each.p50 for each in figures),
                "p99 ms": median(each.p99 for each in figures),
                "p99, ratio to bare": median(
                    each.p99 / base.p99 for each, base in zip(figures, bare, strict=True)
                ),
            }
            for mode, figures in results.items()
        ]
        note = f"{CONNECTIONS} connections, {SECONDS} s a round, medians of {len(bare)} rounds"
        panels = {name: {row["responses"]: row[name] for row in rows} for name in ("requests/s", "p99 ms")}
        plot_bars(f"serving-{items}", {f"{name}, {items:,} items": values for name, values in panels.items()})
        report_rows(f"serving {items}: throughput and latency of GET /recommend, {items:,} items x 64", rows, note)

    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "ratings.csv"
        await asyncio.to_thread(shutil.copyfile, await synthetic(TRAINING_ROWS), csv)
        await measure_while_fitting("training", csv, {"n_components": 64})


async def _measure(items: int) -> dict[str, list[Figures]]:
    """By mode, the figures of :func:`wrk` of each round."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_data_folder(folder, USERS, items, 64)
        ports = {
            BARE: await _start(stack, items, "bare"),
            "cached": await _start(stack, items, "recserver", str(folder), "64"),
            "uncached": await _start(stack, items, "recserver", str(folder), "0"),
            "uncached, unbatched": await _start(stack, items, "recserver", str(folder), "0", "--unbatched"),
        }
        results: dict[str, list[Figures]] = {mode: [] for mode in ports}
        for number in range(rounds(5) + 1):
            for mode, port in ports.items():
                figures = await wrk(folder, port, MODES[mode])
                if number:  # the first round is a warm-up
                    results[mode].append(figures)
        return results


async def _start(stack: AsyncExitStack, items: int, *arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.serving", *arguments, *(["--pinned"] if items <= 10_000 else []), stdout=PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # as ``recserver serve`` does
    )  # fmt: skip
    stack.push_async_callback(_kill, process)
    assert process.stdout is not None
    return int(await process.stdout.readline())


async def _kill(process: Process) -> None:
    process.kill()
    await process.wait()


async def wrk(folder: Path, port: int, users: int, *, pinned: bool = True) -> Figures:
    """Measure a server under load for ``SECONDS``.

    Args:
        folder: where the wrk script is written.
        users: the number of users that are requested in turn.
        pinned: whether wrk is pinned to one core.
    """
    script = folder / f"{users}.lua"
    script.write_text(SCRIPT.replace("{users}", str(users)))
    process = await asyncio.create_subprocess_exec(
        "wrk", "-t1", "--timeout", "10s", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", str(script),
        f"http://127.0.0.1:{port}", stdout=PIPE, preexec_fn=lambda: _pin_to_core(1) if pinned else None,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    percentiles = (_number(output, rf"\s{percent}%\s+([\d.]+)(\w+)") for percent in (50, 99))
    return Figures(_number(output, r"Requests/sec:\s+([\d.]+)(\w*)"), *percentiles)


UNITS: Mapping[str, float] = {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3}


def _number(output: str, pattern: str) -> float:
    match = re.search(pattern, output)
    assert match is not None, output
    return float(match[1]) * UNITS[match[2]]


def _pin_to_core(number: int) -> None:
    if (os.cpu_count() or 1) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {number})


async def _serve_recserver(folder: str, cache: int, unbatched: bool) -> None:
    if unbatched:  # score each request alone, in the event loop

        async def recommend(_: object, model: Recommender, user_id: str | None, query: Query) -> Answer:
            return pipeline.recommend(model, user_id, query)

        setattr(MicroBatcher, "recommend", recommend)  # noqa: B010 - mypy rejects assigning to a method
    server = RecServer(folder, Settings(port=0, answer_cache=cache, read_only=True))
    async with server.serve() as url:
        freeze_gc()  # as ``recserver serve`` does
        print(url.rsplit(":", 1)[1], flush=True)
        await asyncio.Event().wait()


async def _serve_bare() -> None:
    items = ",".join(f'{{"item_id":"i{number:08d}","score":12.345678}}' for number in range(10))
    body = (f'{{"model_id":"bench","user_id":"u00000001","predictions":{{"u00000001":[{items}]}},'
            '"datetime":"2026-01-02T03:04:05.678Z","status":"completed","n_recommendations":10,'
            '"source":"personal","model_version":1}').encode()  # fmt: skip

    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/recommend", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if "--pinned" in sys.argv:
        _pin_to_core(0)
    if sys.argv[1] == "recserver":
        asyncio.run(_serve_recserver(sys.argv[2], int(sys.argv[3]), "--unbatched" in sys.argv))
    else:
        asyncio.run(_serve_bare())
