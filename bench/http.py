"""GET /recommend beside a bare aiohttp handler that answers the same bytes, in requests a second.

Server and client are processes of their own; the client keeps 32 connections busy for a bounded time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from bench.models import write_model
from bench.report import alternate, report
from recserver import RecServer, Settings

CONNECTIONS, SECONDS, ROUNDS = 32, 3.0, 5
USERS = 2_000


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "models").mkdir()
        write_model(data / "models" / "bench.pkl", users=USERS, items=10_000, k=64)
        (data / "models" / "bench_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
        bare, full = await _start("bare"), await _start("full", folder)
        try:
            measures = {"bare handler": _load(bare[1]), "/recommend": _load(full[1])}
            found = await alternate(ROUNDS, measures)
        finally:
            for process, _ in (bare, full):
                process.kill()
                await process.wait()
    note = f"{CONNECTIONS} connections, {SECONDS:g} s a round; the client shares the machine with the server"
    report("http: GET /recommend, 10,000 items x 64, scored each time", "requests/s", found, note)


async def _start(*arguments: str) -> tuple[asyncio.subprocess.Process, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.http", *arguments, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # as ``recserver serve`` does
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


def _load(port: int) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        end = time.perf_counter() + SECONDS
        counts = await asyncio.gather(*(_ask(port, end, number) for number in range(CONNECTIONS)))
        return sum(counts) / SECONDS

    return measure


async def _ask(port: int, end: float, first: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.perf_counter() < end:
        user = (first * 61 + count) % USERS
        request = f"GET /recommend?user_id=u{user:08d}&model_id=bench&n=10 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        count += 1
    writer.close()
    return count


async def _serve_full(folder: str) -> None:
    server = RecServer(folder, Settings(port=0))
    async with server.serve() as url:
        print(url.rsplit(":", 1)[1], flush=True)
        await asyncio.Event().wait()


async def _serve_bare() -> None:
    items = ", ".join(f'{{"item_id": "i{number:08d}", "score": 12.345678}}' for number in range(10))
    body = (f'{{"model_id": "bench", "user_id": "u00000001", "predictions": {{"u00000001": [{items}]}}, '
            '"datetime": "2026-01-02T03:04:05.678Z", "status": "completed", "n_recommendations": 10, '
            '"source": "personal", "model_version": 1}').encode()  # fmt: skip

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
    asyncio.run(_serve_full(sys.argv[2]) if sys.argv[1] == "full" else _serve_bare())
