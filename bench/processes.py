"""``recserver serve --workers N``: the memory of every serving process, and requests a second by wrk.

What processes share is counted three ways: resident memory has all of it for each of them, proportional memory an
equal part, private memory nothing. What a further process costs the machine is by how much the proportional memory
of all of them together grows.
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
from typing import Any

from aiohttp import ClientSession, TCPConnector

from bench.models import write_model
from bench.report import report_rows
from bench.rows import rounds
from bench.serving import median, wrk

WORKERS = 1, 2, 4
USERS, FEW = 2_000, 200
ASKED = 300
"""Requests to each process, on average, before its memory is looked at."""

KINDS = {"resident": "Rss", "proportional": "Pss", "private": "Private_Clean Private_Dirty"}


async def main() -> None:
    for items in (10_000, 1_000_000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "models").mkdir()
            write_model(folder / "models" / "bench.pkl", users=USERS, items=items, k=64)
            (folder / "models" / "bench_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
            await _memory(folder, items)
            if shutil.which("wrk") is None:
                print("processes: wrk is not installed, so requests are not counted.")
            else:
                await _requests(folder, items)


async def _memory(folder: Path, items: int) -> None:
    rows, alone = list[dict[str, Any]](), 0.0
    for workers in WORKERS:
        async with _service(folder, workers) as (service, port):
            await _ask(port, ASKED * workers)
            pids = _serving(service)
            found = {kind: [_mib(pid, fields.split()) for pid in pids] for kind, fields in KINDS.items()}
            overseer = 0.0 if workers == 1 else _mib(service.pid, ["Pss"])
        together = sum(found["proportional"]) + overseer
        alone = together if workers == 1 else alone
        rows.append(
            {
                "processes": workers,
                **{f"{kind}, MiB": max(values) for kind, values in found.items()},
                "supervisor, MiB": overseer,
                "together, MiB": together,
                "each further one, MiB": (together - alone) / (workers - 1) if workers > 1 else float("nan"),
            }
        )
    note = f"the largest of the serving processes, after {ASKED} requests to each; together: proportional"
    report_rows(f"processes memory {items}: {items:,} items x 64", rows, note)


async def _requests(folder: Path, items: int) -> None:
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for number in range(rounds(5)):
        for answers, cache, users in (("known answers", "64", FEW), ("each computed", "0", USERS)):
            for workers in WORKERS[:2]:
                async with _service(folder, workers, RECSERVER_ANSWER_CACHE=cache) as (_, port):
                    await wrk(folder, port, users, pinned=False)  # warms up
                    figures = await wrk(folder, port, users, pinned=False)
                found.setdefault((answers, workers), []).append(figures)
        print(f"round {number + 1} is done", file=sys.stderr)
    rows = [
        {
            "answers": answers,
            "processes": workers,
            "requests/s": median([one[0] for one in figures]),
            "p50 ms": median([one[1] for one in figures]),
            "p99 ms": median([one[2] for one in figures]),
            "of one process": median([one[0] for one in figures]) / median([one[0] for one in found[answers, 1]]),
        }
        for (answers, workers), figures in found.items()
    ]
    note = f"64 connections; the processes and wrk share {os.cpu_count()} cores; medians"
    report_rows(f"processes serving {items}: GET /recommend, {items:,} items x 64", rows, note)


@asynccontextmanager
async def _service(folder: Path, workers: int, **environment: str) -> AsyncIterator[tuple[Process, int]]:
    words = ("serve", "--port", "0", "--data", str(folder), "--workers", str(workers))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "recserver", *words, stderr=PIPE, env={**os.environ, **environment}
    )
    try:
        assert process.stderr is not None
        said = ""
        while (port := re.search(r"listens on http://[^ ]+:(\d+)", said)) is None:
            said = (await process.stderr.readline()).decode()
            assert said, "the service did not start"
        yield process, int(port[1])
    finally:
        process.terminate()
        await process.communicate()


async def _ask(port: int, requests: int) -> None:
    """Ask, each time over a connection of its own, so that every process has its share."""
    async with ClientSession(connector=TCPConnector(force_close=True)) as http:
        for number in range(requests):
            address = f"http://127.0.0.1:{port}/recommend/u{number % USERS:08d}/bench"
            async with http.get(address) as answer:
                assert answer.status == 200, await answer.text()


def _serving(service: Process) -> list[int]:
    """The processes that answer: those that were started, or if there are none, the one itself."""
    tasks = Path(f"/proc/{service.pid}/task").glob("*/children")
    return [int(pid) for file in tasks for pid in file.read_text().split()] or [service.pid]


def _mib(pid: int, fields: list[str]) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in fields) / 2**10
