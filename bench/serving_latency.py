"""The latency of GET /recommend while a training reads its source or fits, compared with an idle server.

The server, the load generator and the data source run in separate processes. The load is open-loop: requests are
sent at a constant rate, whether or not earlier ones have been answered. Only requests that are sent during the
stage of interest are counted.
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

from bench.chef_reading import MAX_SOURCE_BYTES
from bench.models import write_data_folder
from bench.report import report
from bench.settings import rounds
from recserver import RecServer, Settings
from recserver._internal.core.events import RunEnded, RunProgressed
from recserver._internal.server.workers.process_setup import freeze_gc

RATE, SECONDS = 100.0, 8.0
"""Requests per second, and the duration of a round."""

CONNECTIONS = 16
USERS, ITEMS, COMPONENTS = 2_000, 5_000, 32

Spans = list[tuple[float, float]]
"""Start and end of each time interval in which a training was in the stage."""
Latencies = list[tuple[float, float]]
"""The time at which each request was sent, and its latency in milliseconds."""

QUICK_FIT = {"n_components": 2, "max_iter": 1, "tol": 1.0}


async def measure_while_reading(name: str, entry: dict[str, Any]) -> None:
    """Report the latency during the stage ``reading``, as ``name serving``.

    Args:
        entry: the definition of the data chef that the trainings read, again and again.
    """
    await _measure("reading", name, entry, QUICK_FIT)


async def measure_while_fitting(name: str, csv: Path, hyperparameters: dict[str, Any]) -> None:
    """Report the latency during the stage ``fitting``, as ``name serving``.

    Args:
        csv: training data of :mod:`bench.topic_interactions`. A row is appended before each training.
        hyperparameters: of the trained model.
    """
    entry = {"type": "csv", "path": str(csv)}
    await _measure("fitting", name, entry, hyperparameters)


async def _measure(stage: str, name: str, entry: dict[str, Any], hyperparameters: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _create_data_folder(Path(folder), entry)
        growing_csv = entry["path"] if stage == "fitting" else ""
        server = await _start("serve", folder, stage, json.dumps(hyperparameters), growing_csv)
        try:
            port = await _read_json(server)
            await _train_for(server, 0.0)  # the first training fits; later ones with unchanged data do not
            values = await _rounds(server, port, stage)
        finally:
            server.kill()
            await server.wait()
    note = (f"{RATE:g} requests/s for {SECONDS:g} s a round, a model of {ITEMS:,} items x {COMPONENTS}; "
            f"server, worker, source and load generator share {os.cpu_count()} cores")  # fmt: skip
    report(f"{name} serving: latency of GET /recommend while a training is {stage}", "ms", values, note)


async def _rounds(server: Process, port: int, stage: str) -> dict[str, list[float]]:
    names = "p99, idle", f"p99, while {stage}", "p50, idle", f"p50, while {stage}"
    values: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds(7)):
        for busy in (False, True):
            load = await _start("load", str(port))
            spans: Spans = await _train_for(server, SECONDS) if busy else [(0.0, float("inf"))]
            latencies: Latencies = await _read_json(load)
            await load.wait()
            counted = [latency for at, latency in latencies if any(begin <= at < end for begin, end in spans)]
            if not counted:  # on a busy machine the stage may begin after the last request
                continue
            for name, percent in (("p99", 99), ("p50", 50)):
                values[f"{name}, {f'while {stage}' if busy else 'idle'}"].append(
                    float(np.percentile(counted, percent))
                )
    return values


def _create_data_folder(data: Path, entry: dict[str, Any]) -> None:
    """Create a data folder with a trained model to serve, and a data chef to train another one from."""
    write_data_folder(data, USERS, ITEMS, COMPONENTS)
    for name in ("tasks", "config"):
        (data / name).mkdir()
    (data / "config" / "restaurant_data.yaml").write_text(json.dumps({"source": entry}))


async def _start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.serving_latency", *arguments, stdin=PIPE, stdout=PIPE, limit=2**24,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # as ``recserver serve`` does
    )  # fmt: skip


async def _read_json(process: Process) -> Any:
    assert process.stdout is not None
    return json.loads(await process.stdout.readline())


async def _train_for(server: Process, seconds: float) -> Spans:
    """Let the server run trainings for some time, at least one; return when they were in the stage."""
    assert server.stdin is not None
    server.stdin.write(f"{seconds}\n".encode())
    await server.stdin.drain()
    spans: Spans = await _read_json(server)
    return spans


async def _serve(folder: str, stage: str, hyperparameters: str, growing_csv: str) -> None:
    settings = Settings(port=0, csv_roots=(Path("/"),), max_source_bytes=MAX_SOURCE_BYTES)
    server = RecServer(folder, settings)
    async with server.serve() as url:
        await server.create_model("trained", algorithm="nmf", hyperparameters=json.loads(hyperparameters))
        freeze_gc()  # as ``recserver serve`` does
        print(url.rsplit(":", 1)[1], flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _train(server, float(line), stage, growing_csv)), flush=True)


async def _train(server: RecServer, seconds: float, stage: str, growing_csv: str) -> Spans:
    """Run trainings for some time, at least one; return when each entered and left the stage."""
    spans: Spans = []
    until, begin = time.monotonic() + seconds, None
    with server.events.listen() as events:
        await asyncio.to_thread(_append_row, growing_csv)
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
                await asyncio.to_thread(_append_row, growing_csv)
    await server.remove_model_task("again")
    return spans


def _append_row(path: str) -> None:
    if path:
        with open(path, "a") as file:  # noqa: PTH123
            file.write(f"user-{time.time_ns()},sku-0002149,1,1500000000\n")


async def _load(port: int) -> None:
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    latencies: Latencies = []

    async def send(number: int) -> None:
        at = time.monotonic()
        reader, writer = await idle.get()
        user = number * 61 % USERS
        writer.write(
            f"GET /recommend?user_id=u{user:08d}&model_id=bench&n=10 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]))
        latencies.append((at, (time.monotonic() - at) * 1e3))
        idle.put_nowait((reader, writer))

    begin = time.monotonic()
    async with asyncio.TaskGroup() as requests:
        for number in range(int(RATE * SECONDS)):
            await asyncio.sleep(begin + number / RATE - time.monotonic())
            requests.create_task(send(number))
    print(json.dumps(latencies), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[2:]) if sys.argv[1] == "serve" else _load(int(sys.argv[2])))
