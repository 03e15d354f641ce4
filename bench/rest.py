"""Reading a paginated REST endpoint with a data chef, compared with decoding the same bytes from memory."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import urlopen

from aiohttp import web

from bench.fresh_process import NOTE, seconds_of
from bench.random_interactions import id_lists, make_rows
from bench.report import measure_round_robin, report
from bench.serving_latency import measure_while_reading
from bench.settings import n_rows, rounds

ROWS = 1_000_000
PAGE_SIZES = (10_000, 1_000)


async def main() -> None:
    count = n_rows(ROWS)
    async with _source(count) as address:
        for size in PAGE_SIZES:
            entry, small = (json.dumps(_entry(f"{address}/{name}", size)) for name in ("rows", "small"))
            chef_arguments = "/", entry, small
            measures = {
                "json.loads, from memory": seconds_of("bench.rest:decode_pages", "json", address, size),
                "msgspec, from memory": seconds_of("bench.rest:decode_pages", "msgspec", address, size),
                "aiohttp, not decoded": seconds_of("bench.rest:fetch_pages", address, size),
                "data chef's batches": seconds_of("bench.chef_reading:read_batches", *chef_arguments),
                "collect()": seconds_of("bench.chef_reading:collect_interactions", *chef_arguments),
            }
            seconds = await measure_round_robin(rounds(7), measures)
            note = f"{NOTE}; a separate process serves pages from memory; aiohttp sends 4 concurrent requests"
            report(f"rest {size}: reading {count:,} records in pages of {size:,}", "s", seconds, note)
        await measure_while_reading("rest", _entry(f"{address}/rows", PAGE_SIZES[0]))


def decode_pages(decoder: str, address: str, size: str) -> Callable[[], int]:
    """Decode all pages one after the other; they are fetched before."""
    bodies = [urlopen(f"{address}/rows?page={page}&size={size}").read() for page in _pages(address, size)]
    if decoder == "json":
        return lambda: sum(len(json.loads(body)) for body in bodies)
    import msgspec

    return lambda: sum(len(msgspec.json.decode(body)) for body in bodies)


def fetch_pages(address: str, size: str) -> Callable[[], int]:
    """Fetch all pages without decoding them."""
    from aiohttp import ClientSession

    pages = iter(_pages(address, size))

    async def fetch_some(session: ClientSession) -> int:
        total = 0
        for page in pages:
            async with session.get(f"{address}/rows?page={page}&size={size}") as response:
                total += len(await response.read())
        return total

    async def fetch() -> int:
        async with ClientSession() as session:
            return sum(await asyncio.gather(*(fetch_some(session) for _ in range(4))))

    return lambda: asyncio.run(fetch())


def _pages(address: str, size: str) -> range:
    return range(1, int(urlopen(f"{address}/pages?size={size}").read()) + 1)


def _entry(url: str, size: int) -> dict[str, Any]:
    return {"type": "api", "url": url, "paginated": True, "page_size": size}


@asynccontextmanager
async def _source(count: int) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.rest", str(count), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


def _bodies(count: int, size: int) -> list[bytes]:
    rows = make_rows(count)
    users, items = id_lists(rows)
    columns = (column.tolist() for column in (rows.users, rows.items, rows.ratings, rows.times))
    records = [
        f'{{"user_id":"{users[user]}","item_id":"{items[item]}","rating":{rating},"timestamp":{time}}}'
        for user, item, rating, time in zip(*columns, strict=True)
    ]
    return [f"[{','.join(records[start : start + size])}]".encode() for start in range(0, count, size)]


async def _serve(count: int) -> None:
    """Serve pages from memory, and print the port."""
    bodies = {size: _bodies(count, size) for size in PAGE_SIZES}

    async def rows(request: web.Request) -> web.Response:
        pages, page = bodies[int(request.query["size"])], int(request.query["page"])
        return web.Response(body=pages[page - 1] if page <= len(pages) else b"[]", content_type="application/json")

    async def small(request: web.Request) -> web.Response:
        body = b'[{"user_id":"u","item_id":"i","rating":1,"timestamp":1500000000}]'
        return web.Response(body=body if request.query["page"] == "1" else b"[]", content_type="application/json")

    async def pages(request: web.Request) -> web.Response:
        return web.Response(text=str(len(bodies[int(request.query["size"])])))

    app = web.Application()
    app.router.add_get("/rows", rows)
    app.router.add_get("/small", small)
    app.router.add_get("/pages", pages)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the parent process ends


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
