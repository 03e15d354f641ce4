"""``recserver serve --workers N``: memory of the serving processes, and their throughput, measured by wrk.

Shared memory counts in full as resident memory (RSS) of each process, in equal parts as proportional memory (PSS),
and not at all as private memory. The cost of one more process is the growth of the total proportional memory.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median_high as median
from typing import Any

from aiohttp import ClientSession, TCPConnector

from bench.memory import smaps_mib
from bench.models import write_data_folder
from bench.report import report_rows
from bench.serving import Figures, wrk
from bench.settings import rounds

WORKERS = 1, 2, 4
USERS, CACHED_USERS = 2_000, 200
REQUESTS = 300
"""Requests to each process, on average, before its memory is measured."""

SMAPS_FIELDS = {"resident": ["Rss"], "proportional": ["Pss"], "private": ["Private_Clean", "Private_Dirty"]}


async def main() -> None:
    for items in (10_000, 1_000_000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_data_folder(folder, USERS, items, 64)
            await _memory(folder, items)
            if shutil.which("wrk") is None:
                print("processes: wrk is not installed, so throughput is not measured.")
            else:
                await _requests(folder, items)


async def _memory(folder: Path, items: int) -> None:
    rows, single = list[dict[str, Any]](), 0.0
    for workers in WORKERS:
        async with _service(folder, workers) as (service, port):
            await _send_requests(port, REQUESTS * workers)
            pids = _serving_pids(service)
            memory = {kind: [smaps_mib(pid, *fields) for pid in pids] for kind, fields in SMAPS_FIELDS.items()}
            supervisor = 0.0 if workers == 1 else smaps_mib(service.pid, "Pss")
        total = sum(memory["proportional"]) + supervisor
        single = total if workers == 1 else single
        rows.append(
            {
                "processes": workers,
                **{f"{kind}, MiB": max(values) for kind, values in memory.items()},
                "supervisor, MiB": supervisor,
                "total, MiB": total,
                "each additional process, MiB": (total - single) / (workers - 1) if workers > 1 else float("nan"),
            }
        )
    note = f"maximum of the serving processes, after {REQUESTS} requests to each; total: PSS of all processes"
    report_rows(f"processes memory {items}: memory by number of processes, {items:,} items x 64", rows, note)


async def _requests(folder: Path, items: int) -> None:
    results: dict[tuple[str, int], list[Figures]] = {}
    for number in range(rounds(5)):
        for responses, cache, users in (("cached", "64", CACHED_USERS), ("uncached", "0", USERS)):
            for workers in WORKERS[:2]:
                async with _service(folder, workers, RECSERVER_ANSWER_CACHE=cache) as (_, port):
                    await wrk(folder, port, users, pinned=False)  # warm-up
                    figures = await wrk(folder, port, users, pinned=False)
                results.setdefault((responses, workers), []).append(figures)
        print(f"round {number + 1} is done", file=sys.stderr)
    rows = [
        {
            "responses": responses,
            "processes": workers,
            "requests/s": median(each.requests_per_s for each in figures),
            "p50 ms": median(each.p50 for each in figures),
            "p99 ms": median(each.p99 for each in figures),
            "ratio to 1 process": median(each.requests_per_s for each in figures)
            / median(each.requests_per_s for each in results[responses, 1]),
        }
        for (responses, workers), figures in results.items()
    ]
    note = f"64 connections; the processes and wrk share {os.cpu_count()} cores; medians"
    report_rows(f"processes serving {items}: GET /recommend, {items:,} items x 64", rows, note)


@asynccontextmanager
async def _service(folder: Path, workers: int, **environment: str) -> AsyncIterator[tuple[Process, int]]:
    options = ("serve", "--port", "0", "--data", str(folder), "--workers", str(workers))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "recserver", *options, stderr=PIPE, env={**os.environ, **environment}
    )
    try:
        assert process.stderr is not None
        line = ""
        while (port := re.search(r"listens on http://[^ ]+:(\d+)", line)) is None:
            line = (await process.stderr.readline()).decode()
            assert line, "the service did not start"
        yield process, int(port[1])
    finally:
        process.terminate()
        await process.communicate()


async def _send_requests(port: int, requests: int) -> None:
    """Send each request over a new connection, so that the kernel distributes them over the processes."""
    async with ClientSession(connector=TCPConnector(force_close=True)) as http:
        for number in range(requests):
            url = f"http://127.0.0.1:{port}/recommend/u{number % USERS:08d}/bench"
            async with http.get(url) as response:
                assert response.status == 200, await response.text()


def _serving_pids(service: Process) -> list[int]:
    """The serving processes: the children of the supervisor, or the process itself if it has none."""
    tasks = Path(f"/proc/{service.pid}/task").glob("*/children")
    return [int(pid) for file in tasks for pid in file.read_text().split()] or [service.pid]
