"""Pages of JSON records, fetched and taken apart by our chef, beside decoding the same bytes, in seconds."""

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

from bench.beside import while_reading
from bench.child import NOTE, seconds_of
from bench.report import alternate, report
from bench.rows import make_rows, n_rows, names, rounds

ROWS = 1_000_000
SIZES = (10_000, 1_000)
"""Records a page."""


async def main() -> None:
    count = n_rows(ROWS)
    async with _source(count) as address:
        for size in SIZES:
            entry, few = (json.dumps(_entry(f"{address}/{name}", size)) for name in ("rows", "few"))
            ours = "/", entry, few
            works = {
                "json.loads of the same bytes": seconds_of("bench.rest:decoding", "json", address, size),
                "msgspec of the same bytes": seconds_of("bench.rest:decoding", "msgspec", address, size),
                "aiohttp alone, 4 at a time": seconds_of("bench.rest:fetching", address, size),
                "chef's batches": seconds_of("bench.sources:chef", *ours),
                "collect()": seconds_of("bench.sources:collecting", *ours),
            }
            found = await alternate(rounds(7), works)
            note = f"{NOTE}; the source is a process of its own that answers from memory"
            report(f"rest {size}: {count:,} records, {size:,} a page", "s", found, note)
        await while_reading("rest", _entry(f"{address}/rows", SIZES[0]))


def decoding(how: str, address: str, size: str) -> Callable[[], int]:
    """For a child: all pages decoded, one after the other; they are in memory before."""
    bodies = [urlopen(f"{address}/rows?page={page}&size={size}").read() for page in _pages(address, size)]
    if how == "json":
        return lambda: sum(len(json.loads(body)) for body in bodies)
    import msgspec

    return lambda: sum(len(msgspec.json.decode(body)) for body in bodies)


def fetching(address: str, size: str) -> Callable[[], int]:
    """For a child: all pages fetched, and not looked at."""
    from aiohttp import ClientSession

    pages = iter(_pages(address, size))

    async def some(session: ClientSession) -> int:
        total = 0
        for page in pages:
            async with session.get(f"{address}/rows?page={page}&size={size}") as answer:
                total += len(await answer.read())
        return total

    async def fetch() -> int:
        async with ClientSession() as session:
            return sum(await asyncio.gather(*(some(session) for _ in range(4))))

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
    users, items = names(rows)
    columns = (column.tolist() for column in (rows.users, rows.items, rows.ratings, rows.times))
    records = [
        f'{{"user_id":"{users[user]}","item_id":"{items[item]}","rating":{rating},"timestamp":{time}}}'
        for user, item, rating, time in zip(*columns, strict=True)
    ]
    return [f"[{','.join(records[start : start + size])}]".encode() for start in range(0, count, size)]


async def _serve(count: int) -> None:
    """Answer pages from memory, and print the port."""
    bodies = {size: _bodies(count, size) for size in SIZES}

    async def rows(request: web.Request) -> web.Response:
        pages, page = bodies[int(request.query["size"])], int(request.query["page"])
        return web.Response(body=pages[page - 1] if page <= len(pages) else b"[]", content_type="application/json")

    async def few(request: web.Request) -> web.Response:
        body = b'[{"user_id":"u","item_id":"i","rating":1,"timestamp":1500000000}]'
        return web.Response(body=body if request.query["page"] == "1" else b"[]", content_type="application/json")

    async def pages(request: web.Request) -> web.Response:
        return web.Response(text=str(len(bodies[int(request.query["size"])])))

    app = web.Application()
    app.router.add_get("/rows", rows)
    app.router.add_get("/few", few)
    app.router.add_get("/pages", pages)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until whoever started it is gone


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
