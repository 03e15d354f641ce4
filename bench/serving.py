"""GET /recommend under load by wrk, beside a bare aiohttp handler that answers the same bytes.

Every server and wrk are processes of their own. With 10,000 items wrk has one core and the servers another; with
more, servers may use both, for they score in a thread. Servers take turns within each round.
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

from aiohttp import web

from bench.beside import while_fitting
from bench.datasets import synthetic
from bench.models import write_model
from bench.plots import bars
from bench.report import report_rows
from bench.rows import rounds
from recserver import RecServer, Settings
from recserver.recommend import pipeline as answering
from recserver.recommend.micro_batching import MicroBatcher
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.pipeline import Recommendations
from recserver.recommend.query import Query
from recserver.server.workers.process_setup import freeze_gc

CONNECTIONS, SECONDS = 64, 3

LEARNED = 1_000_000
"""Rows that a training fits to meanwhile."""

USERS, FEW = 2_000, 200
"""Users that are asked for: all of them in turn, or few, whose answers are known soon."""

SCRIPT = """
local count = 0
request = function()
  count = count + 1
  return wrk.format("GET", string.format("/recommend?user_id=u%08d&model_id=bench&n=10", (count * 61) % {users}))
end
"""
MODES = {"bare": USERS, "known answers": FEW, "each computed": USERS, "each alone, in the loop": USERS}


async def main() -> None:
    if shutil.which("wrk") is None:
        print("serving: wrk is not installed.")
        return
    for items in (10_000, 100_000):
        found = await _measured(items)
        bare = found["bare"]
        rows = [
            {
                "answers": mode,
                "requests/s": median([one[0] for one in figures]),
                "of bare": median([one[0] / base[0] for one, base in zip(figures, bare, strict=True)]),
                "p50 ms": median([one[1] for one in figures]),
                "p99 ms": median([one[2] for one in figures]),
                "p99 of bare": median([one[2] / base[2] for one, base in zip(figures, bare, strict=True)]),
            }
            for mode, figures in found.items()
        ]
        note = f"{CONNECTIONS} connections, {SECONDS} s a round, {len(bare)} rounds in turn; medians"
        panels = {name: {one["answers"]: one[name] for one in rows} for name in ("requests/s", "p99 ms")}
        bars(f"serving-{items}", {f"{name}, {items:,} items": values for name, values in panels.items()})
        report_rows(f"serving {items}: GET /recommend, {items:,} items x 64", rows, note)

    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "ratings.csv"
        await asyncio.to_thread(shutil.copyfile, await synthetic(LEARNED), csv)
        await while_fitting("training", csv, {"n_components": 64})


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


async def _measured(items: int) -> dict[str, list[tuple[float, float, float]]]:
    """Requests a second, and milliseconds at the median and the 99th percentile, by mode and round."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "models").mkdir()
        write_model(folder / "models" / "bench.pkl", users=USERS, items=items, k=64)
        (folder / "models" / "bench_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
        ports = {
            "bare": await _start(stack, items, "bare"),
            "known answers": await _start(stack, items, "full", str(folder), "64"),
            "each computed": await _start(stack, items, "full", str(folder), "0"),
            "each alone, in the loop": await _start(stack, items, "full", str(folder), "0", "--alone"),
        }
        found: dict[str, list[tuple[float, float, float]]] = {mode: [] for mode in ports}
        for number in range(rounds(5) + 1):
            for mode, port in ports.items():
                figures = await wrk(folder, port, MODES[mode])
                if number:  # the first round only warms up
                    found[mode].append(figures)
        return found


async def _start(stack: AsyncExitStack, items: int, *arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.serving", *arguments, *(["--pinned"] if items <= 10_000 else []), stdout=PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # as ``recserver serve`` does
    )  # fmt: skip
    stack.push_async_callback(_end, process)
    assert process.stdout is not None
    return int(await process.stdout.readline())


async def _end(process: Process) -> None:
    process.kill()
    await process.wait()


async def wrk(folder: Path, port: int, users: int, *, pinned: bool = True) -> tuple[float, float, float]:
    """Requests a second, and milliseconds at the median and the 99th percentile, of ``users`` in turn.

    Args:
        folder: for the script.
        pinned: whether wrk keeps to one core.
    """
    script = folder / f"{users}.lua"
    script.write_text(SCRIPT.replace("{users}", str(users)))
    process = await asyncio.create_subprocess_exec(
        "wrk", "-t1", "--timeout", "10s", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", str(script),
        f"http://127.0.0.1:{port}", stdout=PIPE, preexec_fn=lambda: _on_core(1) if pinned else None,
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return _number(said, r"Requests/sec:\s+([\d.]+)(\w*)"), *(
        _number(said, rf"\s{percent}%\s+([\d.]+)(\w+)") for percent in (50, 99)
    )


UNITS: Mapping[str, float] = {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3}


def _number(said: str, pattern: str) -> float:
    found = re.search(pattern, said)
    assert found is not None, said
    return float(found[1]) * UNITS[found[2]]


def _on_core(number: int) -> None:
    if (os.cpu_count() or 1) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {number})


async def _serve_full(folder: str, cache: int, alone: bool) -> None:
    if alone:  # as if there were neither batches nor a thread

        async def recommend(_: object, model: Recommender, user_id: str | None, query: Query) -> Recommendations:
            return answering.recommend(model, user_id, query)

        setattr(MicroBatcher, "recommend", recommend)  # noqa: B010 - it is not for others to set
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

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/recommend", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if "--pinned" in sys.argv:
        _on_core(0)
    if sys.argv[1] == "full":
        asyncio.run(_serve_full(sys.argv[2], int(sys.argv[3]), "--alone" in sys.argv))
    else:
        asyncio.run(_serve_bare())
