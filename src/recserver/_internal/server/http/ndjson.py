"""Responses of newline-delimited JSON, streamed while they are computed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from aiohttp import web

from recserver._internal.results.base import ResultObject
from recserver._internal.server.http.codec import to_json

logger = logging.getLogger(__name__)

WRITE_TIMEOUT = 600.0
"""Seconds after which a client that receives nothing is disconnected: its response keeps a version in memory."""

CHUNK_BYTES = 2**15
"""Bytes that are collected before they are sent."""

DISCONNECT_POLL_SECONDS = 1.0
"""Interval at which it is checked whether the client is still connected."""

Line = ResultObject
Transform = Callable[[Line], Line]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def stream_ndjson(
    request: web.Request, lines: AsyncGenerator[Line, None], transform: Transform, *, flush_each: bool = False
) -> web.StreamResponse:
    """Stream lines as newline-delimited JSON, computing them only as fast as the client receives them.

    The generator is closed when the client disconnects.

    Args:
        transform: applied to each line before it is sent.
        flush_each: whether each line is sent at once.
    """
    response = web.StreamResponse(headers={"X-Content-Type-Options": "nosniff"})
    response.content_type, response.charset = "application/x-ndjson", "utf-8"
    async with aclosing(lines):
        try:
            await response.prepare(request)
            await _write(response, lines, transform, 0 if flush_each else CHUNK_BYTES)
            await response.write_eof()
        except ConnectionResetError:
            pass  # the client has disconnected
        except _Stalled:
            path = request.rel_url.raw_path
            logger.warning(
                "%s %s: the client received nothing for %g seconds", request.method, path, WRITE_TIMEOUT
            )
            _abort(request)
        except Exception:
            logger.exception("%s %s", request.method, request.rel_url.raw_path)
            _abort(request)
    return response


def cancel_on_disconnect(handler: Handler) -> Handler:
    """``handler``, cancelled when its client disconnects, even if nothing was sent yet."""

    async def handle(request: web.Request) -> web.StreamResponse:
        work = asyncio.ensure_future(handler(request))
        try:
            while not work.done() and request.transport is not None:
                await asyncio.wait([work], timeout=DISCONNECT_POLL_SECONDS)
        finally:
            work.cancel()
            await asyncio.wait([work])
        return web.Response() if work.cancelled() else work.result()  # the client has disconnected

    return handle


async def _write(
    response: web.StreamResponse, lines: AsyncIterator[Line], transform: Transform, chunk_bytes: int
) -> None:
    buffer = bytearray()
    async for line in lines:
        buffer += to_json(transform(line))
        if len(buffer) >= chunk_bytes:
            await _send(response, buffer)
            buffer.clear()
    await _send(response, buffer)


async def _send(response: web.StreamResponse, content: bytearray) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await response.write(bytes(content))
    except TimeoutError:
        raise _Stalled from None


def _abort(request: web.Request) -> None:
    """Close the connection, so that the client sees that the response is incomplete."""
    if request.transport is not None:
        request.transport.abort()


class _Stalled(Exception):
    """The client receives nothing."""
