"""GET /recommend while a training reads its source, or fits, beside the same while nothing else happens.

The server, the load and whatever serves the source are processes of their own. The load is open: requests start
when they are due, whether or not earlier ones have been answered. Those that start while a training does so count.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import write_model
from bench.report import report
from bench.rows import rounds
from bench.sources import LARGEST_SOURCE
from recserver import RecServer, Settings
from recserver.core.events import RunEnded, RunProgressed
from recserver.server.workers.process_setup import freeze_gc

RATE, SECONDS = 100.0, 8.0
"""Requests a second, and for how long in each round."""

CONNECTIONS = 16
USERS, ITEMS, COMPONENTS = 2_000, 5_000, 32

Spans = list[tuple[float, float]]
Sample = list[tuple[float, float]]


QUICK_FIT = {"n_components": 2, "max_iter": 1, "tol": 1.0}


async def while_reading(name: str, entry: dict[str, Any]) -> None:
    """Measure, and report as ``name serving``.

    Args:
        entry: of the data chef that trainings read over and over.
    """
    await _while("reading", name, entry, QUICK_FIT)


async def while_fitting(name: str, csv: Path, hyperparameters: dict[str, Any]) -> None:
    """Measure, and report as ``name serving``.

    Args:
        csv: what is learned from, such a file as :mod:`bench.tastes` writes; a row is added for each training.
    """
    entry = {"type": "csv", "path": str(csv)}
    await _while("fitting", name, entry, hyperparameters)


async def _while(stage: str, name: str, entry: dict[str, Any], hyperparameters: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), entry)
        grows = entry["path"] if stage == "fitting" else ""
        server = await _start("serve", folder, stage, json.dumps(hyperparameters), grows)
        try:
            port = await _told(server)
            await _ask(
                server, 0.0
            )  # the first training ends in a fit; where nothing changes the later ones do not
            found = await _rounds(server, port, stage)
        finally:
            server.kill()
            await server.wait()
    note = (f"{RATE:g} requests/s for {SECONDS:g} s a round, of {ITEMS:,} items x {COMPONENTS}; "
            f"server, worker, source and load share {os.cpu_count()} cores")  # fmt: skip
    report(f"{name} serving: GET /recommend while a training is {stage}", "ms", found, note)


async def _rounds(server: Process, port: int, stage: str) -> dict[str, list[float]]:
    names = "p99, idle", f"p99, while {stage}", "p50, idle", f"p50, while {stage}"
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds(7)):
        for busy in (False, True):
            load = await _start("load", str(port))
            spans: Spans = await _ask(server, SECONDS) if busy else [(0.0, float("inf"))]
            sample: Sample = await _told(load)
            await load.wait()
            inside = [late for at, late in sample if any(begin <= at < end for begin, end in spans)]
            if not inside:  # on a busy machine the stage may begin after the load has ended
                continue
            for part, at in (("p99", 99), ("p50", 50)):
                found[f"{part}, {f'while {stage}' if busy else 'idle'}"].append(float(np.percentile(inside, at)))
    return found


def _fill(data: Path, entry: dict[str, Any]) -> None:
    """A data folder with a model to answer from, and one to be trained."""
    for name in ("models", "tasks", "config"):
        (data / name).mkdir()
    write_model(data / "models" / "bench.pkl", users=USERS, items=ITEMS, k=COMPONENTS)
    (data / "models" / "bench_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
    (data / "config" / "restaurant_data.yaml").write_text(json.dumps({"source": entry}))


async def _start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.beside", *arguments, stdin=PIPE, stdout=PIPE, limit=2**24,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # as ``recserver serve`` does
    )  # fmt: skip


async def _told(process: Process) -> Any:
    assert process.stdout is not None
    return json.loads(await process.stdout.readline())


async def _ask(server: Process, seconds: float) -> Spans:
    """Have the server train, again and again for so long; the times in which trainings read."""
    assert server.stdin is not None
    server.stdin.write(f"{seconds}\n".encode())
    await server.stdin.drain()
    spans: Spans = await _told(server)
    return spans


async def _serve(folder: str, stage: str, hyperparameters: str, grows: str) -> None:
    settings = Settings(port=0, csv_roots=(Path("/"),), max_source_bytes=LARGEST_SOURCE)
    server = RecServer(folder, settings)
    async with server.serve() as url:
        await server.create_model("trained", algorithm="nmf", hyperparameters=json.loads(hyperparameters))
        freeze_gc()  # as ``recserver serve`` does
        print(url.rsplit(":", 1)[1], flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _train(server, float(line), stage, grows)), flush=True)


async def _train(server: RecServer, seconds: float, stage: str, grows: str) -> Spans:
    """Trainings, at least one, for about so long; when each came to a stage, and when it left it."""
    spans: Spans = []
    until, begin = time.monotonic() + seconds, None
    with server.events.listen() as events:
        await asyncio.to_thread(_grow, grows)
        await server.add_model_task("again", model_id="trained", data_chef_id="source", interval=1)
        async for event in events:
            if isinstance(event, RunProgressed) and event.stage == stage:
                begin = begin or time.monotonic()
            elif isinstance(event, RunProgressed | RunEnded) and begin is not None:
                spans.append((begin, time.monotonic()))
                begin = None
            if isinstance(event, RunEnded):
                assert event.outcome in ("completed", "unchanged"), event
                if time.monotonic() >= until:
                    break
                await asyncio.to_thread(_grow, grows)
    await server.remove_model_task("again")
    return spans


def _grow(path: str) -> None:
    if path:
        with open(path, "a") as file:  # noqa: PTH123
            file.write(f"user-{time.time_ns()},sku-0002149,1,1500000000\n")


async def _load(port: int) -> None:
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    sample: Sample = []

    async def one(number: int) -> None:
        at = time.monotonic()
        reader, writer = await free.get()
        user = number * 61 % USERS
        writer.write(
            f"GET /recommend?user_id=u{user:08d}&model_id=bench&n=10 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]))
        sample.append((at, (time.monotonic() - at) * 1e3))
        free.put_nowait((reader, writer))

    begin = time.monotonic()
    async with asyncio.TaskGroup() as under_way:
        for number in range(int(RATE * SECONDS)):
            await asyncio.sleep(begin + number / RATE - time.monotonic())
            under_way.create_task(one(number))
    print(json.dumps(sample), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[2:]) if sys.argv[1] == "serve" else _load(int(sys.argv[2])))
