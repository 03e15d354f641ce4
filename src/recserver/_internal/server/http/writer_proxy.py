"""The other processes of a service: requests that only the writer can answer are forwarded to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    UnixConnector,
    web,
)
from multidict import CIMultiDict
from yarl import URL

from recserver._internal.core.errors import WriterUnavailable
from recserver._internal.server.http.codec import read_body

CONNECT_TIMEOUT = 5.0
"""Seconds."""

FORWARDED_HEADERS = "Host", "Origin", "Authorization", "X-API-Key", "Content-Type"
"""Headers of a request that are forwarded."""

HOP_BY_HOP_HEADERS = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers of a response that apply to one connection only."""

WRITER_RESTARTING = (
    "The process that writes the data folder is restarting, and nothing was changed: "
    "try again in a moment. Recommendations are not affected."
)
WRITER_LOST = (
    "The process that writes the data folder ended before it answered, so the request may have been performed: "
    "check in a moment, and try again."
)


@dataclass(frozen=True, slots=True)
class Peers:
    """The other processes of a service, for one of them.

    Attributes:
        writer: the one that writes the data folder; None if it is this one, or there is none.
        wait_settled: returns once all of them serve the versions that this one serves; None if there are no
            followers.
    """

    writer: WriterClient | None = None
    wait_settled: Callable[[], Awaitable[None]] | None = None


NO_PEERS = Peers()


class WriterClient:
    """A client of the writer's Unix socket. An asynchronous context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> Self:
        # One connection for each request: if a reused one breaks, it is not known whether the request arrived.
        self._session = ClientSession(
            connector=UnixConnector(str(self._path), limit=0, force_close=True),
            timeout=ClientTimeout(sock_connect=CONNECT_TIMEOUT),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Forward a request to the writer, and stream its response.

        Raises:
            MalformedJson, UnsupportedMediaType: if the body cannot be read.
            WriterUnavailable: if the writer does not respond.
        """
        content = await read_body(request) if request.body_exists else b""
        async with await self._send(request, content) as reply:
            return await _relay(request, reply)

    async def _send(self, request: web.Request, content: bytes) -> ClientResponse:
        headers = CIMultiDict[str]()
        for name in FORWARDED_HEADERS:
            for value in request.headers.getall(name, ()):
                headers.add(name, _encodable(value))
        url = URL(f"http://writer{_encodable(request.rel_url.raw_path_qs)}", encoded=True)
        try:
            return await self._session.request(
                request.method, url, headers=headers, data=content or None, allow_redirects=False
            )
        except (ClientConnectorError, ConnectionTimeoutError):
            raise WriterUnavailable(WRITER_RESTARTING) from None
        except ClientError:
            raise WriterUnavailable(WRITER_LOST) from None


def _encodable(text: str) -> str:
    """``text`` with its lone surrogates replaced, which stand for bytes that are not UTF-8."""
    return text.encode(errors="replace").decode()


async def _relay(request: web.Request, reply: ClientResponse) -> web.StreamResponse:
    headers = [(name, value) for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP_HEADERS]
    response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=CIMultiDict(headers))
    try:
        await response.prepare(request)
        async for chunk in reply.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (ConnectionResetError, ClientError):  # client or writer has disconnected: the client must see it
        if request.transport is not None:
            request.transport.abort()
    return response
