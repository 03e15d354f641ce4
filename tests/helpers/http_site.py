"""Somebody's HTTP server, and raw TCP servers, that answer as the test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """A real HTTP server, and raw TCP servers, in a thread of their own."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answer: Answer | None = None
        self._raw: list[asyncio.Server] = []
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self.do(self._start())
        self.url = f"http://127.0.0.1:{self.port}"

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def _start(self) -> int:
        server = web.Server(self._handle)
        self._runner = web.ServerRunner(server, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)  # type: ignore[arg-type]
        assert self.answer is not None
        return await self.answer(request)  # type: ignore[arg-type]

    def gives(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer everything with the same."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body, status=status, headers=headers)

        self.answer = answer

    def pages(self, make: Callable[[int, int], Any]) -> None:
        """Answer page and size with the JSON of ``make(page, size)``."""

        async def answer(request: web.Request) -> web.Response:
            page, size = int(request.query["page"]), int(request.query["size"])
            return web.json_response(make(page, size))

        self.answer = answer

    def raw(self, reply: bytes) -> str:
        """The URL of a server that sends ``reply`` to whatever comes, and closes."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            await writer.drain()
            writer.close()

        server = self.do(asyncio.start_server(talk, "127.0.0.1", 0))
        self._raw.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    def close(self) -> None:
        for server in self._raw:
            self.loop.call_soon_threadsafe(server.close)
        self.do(self._runner.cleanup())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
