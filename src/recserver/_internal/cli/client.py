"""An HTTP client of a running server."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from recserver._internal.cli.command import UsageError
from recserver._internal.core.errors import RecServerError
from recserver._internal.results.runs import RunRecord

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)
"""The server answers stop_training only once the training has stopped; everything else takes far less."""

STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=45)
"""The server sends a comment every 15 seconds when there are no events."""

STREAM_OPEN_SECONDS = 5.0
"""Limit for opening a stream of events. A proxy that delays the response would delay the events as well."""

MAX_EVENT_BYTES = 2**20

_NO_STREAM_STATUSES = 404, 405, 501
"""Statuses of a server without a stream of events."""

Event = tuple[str, dict[str, Any]]
"""The name of an event, and its fields."""


class CommandFailed(RecServerError):
    """The server refused a request, did not answer, or sent a response that cannot be read.

    Attributes:
        status: of the response; 0 if there was none.
    """

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class Client:
    """The API of one server. Error responses are raised as :class:`CommandFailed` with the server's sentence."""

    def __init__(self, base: URL, session: aiohttp.ClientSession) -> None:
        self._base = base
        self._session = session
        self.address = str(base.with_user(None)).rstrip("/")
        """The address for messages, without credentials."""

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The body of the response to a GET; arguments that are None are omitted."""
        params = {name: str(value) for name, value in query.items() if value is not None}
        return await self._request("GET", path, params=params)

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The body of the response to a POST."""
        return await self._request("POST", path, json=body)

    async def request(self, method: str, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The body of the response to a request with these fields in its body."""
        return await self._request(method, path, json=fields)

    @asynccontextmanager
    async def events(self, **query: str) -> AsyncIterator[AsyncIterator[Event] | None]:
        """The server's events from now on; None if it has no stream of events.

        Iterating ends when the stream ends, for whatever reason.
        """
        try:
            async with asyncio.timeout(STREAM_OPEN_SECONDS):
                response = await self._session.get(
                    self._base / "events",
                    params=query,
                    timeout=STREAM_TIMEOUT,
                    allow_redirects=False,
                    read_bufsize=MAX_EVENT_BYTES,
                )
        except TimeoutError:
            yield None
            return
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from None
        async with response:
            if response.status == 200 and response.content_type == "text/event-stream":
                yield _parse_events(response.content)
                return
            if response.status not in (200, *_NO_STREAM_STATUSES):
                self._parse_response(response.status, await response.read())
            yield None

    def unexpected_response(self) -> CommandFailed:
        """The error for a response that this version of the command line cannot read."""
        return CommandFailed(
            f"The server at {self.address} has another version than this command: use recserver of its version."
        )

    def run_record(self, content: dict[str, Any]) -> RunRecord:
        """The run that a response describes.

        Raises:
            CommandFailed: if it does not describe one.
        """
        try:
            return RunRecord.from_dict(content)
        except ValueError:
            raise self.unexpected_response() from None

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            # Redirections are refused: the API key must not be sent to another server.
            async with self._session.request(
                method, self._base / path, timeout=REQUEST_TIMEOUT, allow_redirects=False, **options
            ) as response:
                content = await response.read()
        except TimeoutError:
            raise CommandFailed(f"The server at {self.address} did not answer in time.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from None
        return self._parse_response(response.status, content)

    def _unreachable(self, error: Exception) -> CommandFailed:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(cause, ConnectionError) and cause.errno:
            reason = os.strerror(cause.errno)  # asyncio's message repeats the address
        else:
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        return CommandFailed(
            f"No server answers at {self.address} ({reason}): start one with recserver serve, "
            "or give the address of another with --url or RECSERVER_URL."
        )

    def _parse_response(self, status: int, content: bytes) -> dict[str, Any]:
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        if status == 401:
            raise CommandFailed(
                "The API key is missing or wrong: set RECSERVER_API_KEY to the server's key.", status
            )
        if isinstance(body, dict) and status == 200:
            return body
        error = body.get("error") if isinstance(body, dict) else None
        not_recserver = (
            f"The server at {self.address} is not recserver (status {status}): give another with --url."
        )
        raise CommandFailed(str(error or not_recserver), status)


@asynccontextmanager
async def connect(url: str | None) -> AsyncIterator[Client]:
    """A client of the server at ``url``; None for this machine, at the port of RECSERVER_PORT or 9999.

    Raises:
        UsageError: if the address or the key is malformed.
    """
    base, headers = _base_url(url), _auth_headers()
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Client(base, session)


def _base_url(url: str | None) -> URL:
    if url is None:
        port = os.environ.get("RECSERVER_PORT", "").strip() or "9999"
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
            raise UsageError("RECSERVER_PORT is not the port of a server: give the address with --url.")
        return URL(f"http://127.0.0.1:{port}")
    try:
        base = URL(url.strip())
        usable = base.scheme in ("http", "https") and bool(base.host)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError("The address of the server is not valid: write it like http://127.0.0.1:9999.")
    return base.with_query(None).with_fragment(None)


def _auth_headers() -> Mapping[str, str]:
    key = os.environ.get("RECSERVER_API_KEY", "").strip()
    if not key.isprintable():
        raise UsageError("RECSERVER_API_KEY holds characters that no key can have: set it to the server's key.")
    return {"X-API-Key": key} if key else {}


async def _parse_events(content: aiohttp.StreamReader) -> AsyncIterator[Event]:
    name, data = "", ""
    try:
        async for raw in content:
            field, _, value = raw.decode(errors="replace").rstrip("\r\n").partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data += value
            elif not field and not value and data:  # an empty line ends an event; a line with ":" alone is a ping
                fields = json.loads(data)
                if isinstance(fields, dict):
                    yield name, fields
                name, data = "", ""
    except (aiohttp.ClientError, OSError, ValueError):  # closed, timed out, or not JSON: the caller polls instead
        return
