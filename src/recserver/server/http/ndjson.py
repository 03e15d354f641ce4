"""Answers of many lines, each a JSON object, sent as they are found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web

from recserver.server.http.codec import to_json

logger = logging.getLogger(__name__)

WRITE_TIMEOUT = 600.0
"""For a client that takes nothing of what was found. An answer that waits keeps its version in memory."""

CHUNK_BYTES = 2**15
"""Bytes that are sent together."""

DISCONNECT_POLL_SECONDS = 1.0
"""So often it is looked whether a client is still there for which something is done."""

Line = dict[str, Any]
Transform = Callable[[Line], Line]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def stream_ndjson(
    request: web.Request, lines: AsyncGenerator[Line, None], transform: Transform, *, flush_each: bool = False
) -> web.StreamResponse:
    """Newline-delimited JSON. What is not sent in time waits: no more is found than the client takes.

    A client that has gone ends it.

    Args:
        tell: makes of a line what is sent.
        at_once: whether each line is sent by itself, and not only when there are many.
    """
    response = web.StreamResponse(headers={"X-Content-Type-Options": "nosniff"})
    response.content_type, response.charset = "application/x-ndjson", "utf-8"
    async with aclosing(lines):
        try:
            await response.prepare(request)
            await _write(response, lines, transform, 0 if flush_each else CHUNK_BYTES)
            await response.write_eof()
        except ConnectionResetError:
            pass  # the client has gone
        except _Stalled:
            path = request.rel_url.raw_path
            logger.warning("%s %s: the client took nothing for %g seconds", request.method, path, WRITE_TIMEOUT)
            _abort(request)
        except Exception:
            logger.exception("%s %s", request.method, request.rel_url.raw_path)
            _abort(request)
    return response


def cancel_on_disconnect(handler: Handler) -> Handler:
    """``handler``, cancelled once its client has gone, also before anything was sent that would show it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        work = asyncio.ensure_future(handler(request))
        try:
            while not work.done() and request.transport is not None:
                await asyncio.wait([work], timeout=DISCONNECT_POLL_SECONDS)
        finally:
            work.cancel()
            await asyncio.wait([work])
        return web.Response() if work.cancelled() else work.result()  # which nobody hears any more

    return handle


async def _write(
    response: web.StreamResponse, lines: AsyncIterator[Line], transform: Transform, chunk_bytes: int
) -> None:
    waiting = bytearray()
    async for line in lines:
        waiting += to_json(transform(line)) + b"\n"
        if len(waiting) >= chunk_bytes:
            await _send(response, waiting)
            waiting.clear()
    await _send(response, waiting)


async def _send(response: web.StreamResponse, content: bytearray) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await response.write(bytes(content))
    except TimeoutError:
        raise _Stalled from None


def _abort(request: web.Request) -> None:
    """The answer has begun: that it is not whole the client learns by an end that is none."""
    if request.transport is not None:
        request.transport.abort()


class _Stalled(Exception):
    """The client takes nothing."""
