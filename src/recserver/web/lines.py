"""Answers of many lines, each a JSON object, sent as they are found."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from aiohttp import web

from recserver.web.wire import to_json

logger = logging.getLogger(__name__)

CHUNK = 2**15
"""Bytes that are sent together."""


async def stream_lines(
    request: web.Request, lines: AsyncGenerator[Mapping[str, Any], None], *, at_once: bool = False
) -> web.StreamResponse:
    """Newline-delimited JSON. What is not sent in time waits: no more is found than the client takes.

    A client that has gone ends it.

    Args:
        at_once: whether each line is sent by itself, and not only when there are many.
    """
    response = web.StreamResponse(headers={"X-Content-Type-Options": "nosniff"})
    response.content_type, response.charset = "application/x-ndjson", "utf-8"
    async with aclosing(lines):
        await response.prepare(request)
        try:
            await _write(response, lines, 0 if at_once else CHUNK)
            await response.write_eof()
        except ConnectionResetError:
            pass  # the client has gone
        except Exception:  # the answer has begun: the client learns of it by an end that is none
            logger.exception("%s %s", request.method, request.rel_url.raw_path)
            if request.transport is not None:
                request.transport.abort()
    return response


async def _write(response: web.StreamResponse, lines: AsyncIterator[Mapping[str, Any]], together: int) -> None:
    waiting = bytearray()
    async for line in lines:
        waiting += to_json(line) + b"\n"
        if len(waiting) >= together:
            await response.write(bytes(waiting))
            waiting.clear()
    await response.write(bytes(waiting))
