"""The other processes of a service: what only the one that writes can answer is asked of that one."""

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

from recserver.core.errors import WriterUnavailable
from recserver.server.http.codec import read_body

CONNECT_TIMEOUT = 5.0

FORWARDED_HEADERS = "Host", "Origin", "Authorization", "X-API-Key", "Content-Type"
"""Headers of a request that mean something here."""

HOP_BY_HOP_HEADERS = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers of an answer that end with the connection it came by."""


WRITER_RESTARTING = (
    "The process that writes the data folder is being started again, and nothing was changed: "
    "try again in a moment. Recommendations are answered meanwhile."
)
WRITER_LOST = (
    "The process that writes the data folder ended before it answered, so whether this was done is not known: "
    "look in a moment, and try again."
)


@dataclass(frozen=True, slots=True)
class Peers:
    """The other processes of a service, as one of them sees them.

    Attributes:
        writer: the one that writes the data folder; None if this is it, or if nobody does.
        settled: returns once all of them serve the versions that this one serves; None if there is nobody to wait
            for.
    """

    writer: WriterClient | None = None
    wait_settled: Callable[[], Awaitable[None]] | None = None


NO_PEERS = Peers()


class WriterClient:
    """The process that writes the data folder, asked by its Unix socket. To be used as ``async with``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> Self:
        # A connection a request: one that was kept may end just then, and who knows whether the request was heard.
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
        """What the writer answers to a request, as it comes.

        Raises:
            MalformedJson, UnsupportedMediaType: if the body is none that is read here.
            WriterAway: if there is no answer.
        """
        content = await read_body(request) if request.body_exists else b""
        async with await self._send(request, content) as answer:
            return await _relay(request, answer)

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
    """``text`` without what has no form in UTF-8: bytes that were none."""
    return text.encode(errors="replace").decode()


async def _relay(request: web.Request, reply: ClientResponse) -> web.StreamResponse:
    headers = [(name, value) for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP_HEADERS]
    response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=CIMultiDict(headers))
    try:
        await response.prepare(request)
        async for chunk in reply.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (ConnectionResetError, ClientError):  # client or writer has gone: a client learns it by this end
        if request.transport is not None:
            request.transport.abort()
    return response
