"""A running server, spoken to over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from recserver.cli.output import UsageError
from recserver.core.errors import RecServerError

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)
"""Stopping a training is answered when it has stopped; everything else takes far less."""

STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=45)
"""A silent stream shows every 15 seconds that it lives."""

STREAM_OPEN_SECONDS = 5.0
"""For a stream of events to open. What holds it back longer would hold back the events as well."""

MAX_EVENT_BYTES = 2**20

_NO_STREAM_STATUSES = 404, 405, 501
"""Statuses of an address that has no stream of events."""

Event = tuple[str, dict[str, Any]]


class CommandFailed(RecServerError):
    """The server refused, answered what cannot be understood, or did not answer.

    Attributes:
        status: of its answer; None if there was none.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class Client:
    """One server's API. Its refusals are raised as :class:`CommandFailed`, in its own words."""

    def __init__(self, base: URL, session: aiohttp.ClientSession) -> None:
        self._base = base
        self._session = session
        self.address = str(base.with_user(None)).rstrip("/")
        """Its address, for sentences."""

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The body of the answer to a GET; arguments that are None are left out."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return await self._request("GET", path, params=given)

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The body of the answer to a POST."""
        return await self._request("POST", path, json=body)

    @asynccontextmanager
    async def events(self, **query: str) -> AsyncIterator[AsyncIterator[Event] | None]:
        """The server's events from now on; None if it has no stream of them.

        Iterating ends when the stream does, for whatever reason.
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
                yield _events(response.content)
                return
            if response.status not in (200, *_NO_STREAM_STATUSES):
                self._parse_response(response.status, await response.read())
            yield None

    async def _request(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        try:
            # a key must not follow a redirection to somebody else
            async with self._session.request(
                method, self._base / path, timeout=REQUEST_TIMEOUT, allow_redirects=False, **sent
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
            why = os.strerror(cause.errno)  # in its own words asyncio repeats the address
        else:
            why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        return CommandFailed(
            f"No server answers at {self.address} ({why}): start one with recserver serve, "
            "or name another with --url or RECSERVER_URL."
        )

    def _parse_response(self, status: int, content: bytes) -> dict[str, Any]:
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        if status == 401:
            raise CommandFailed("The API key is missing or wrong: set RECSERVER_API_KEY to the server's.", status)
        if isinstance(body, dict) and status == 200:
            return body
        sentence = body.get("error") if isinstance(body, dict) else None
        raise CommandFailed(str(sentence) if sentence else self._not_recserver(status), status)

    def _not_recserver(self, status: int) -> str:
        return f"What answers at {self.address} is no recserver (status {status}): name one with --url."

    def unexpected_response(self) -> CommandFailed:
        """For an answer that is not what this version of the command line knows."""
        return CommandFailed(f"The server at {self.address} is of a version that this command does not know.")


@asynccontextmanager
async def connect(url: str | None) -> AsyncIterator[Client]:
    """A client of the server at ``url``; None is this machine, at the port that the settings name.

    Raises:
        WrongOption: if the address or the key cannot be one.
    """
    base, headers = _base_url(url), _auth_headers()
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Client(base, session)


def _base_url(url: str | None) -> URL:
    if url is None:
        port = os.environ.get("RECSERVER_PORT", "").strip() or "9999"
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
            raise UsageError("RECSERVER_PORT does not say where the server listens: name it with --url.")
        return URL(f"http://127.0.0.1:{port}")
    try:
        base = URL(url.strip())
        usable = base.scheme in ("http", "https") and bool(base.host)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError("The address of the server cannot be used: write it like http://127.0.0.1:9999.")
    return base.with_query(None).with_fragment(None)


def _auth_headers() -> Mapping[str, str]:
    key = os.environ.get("RECSERVER_API_KEY", "").strip()
    if not key.isprintable():
        raise UsageError("RECSERVER_API_KEY holds characters that no key has: set it to the server's.")
    return {"X-API-Key": key} if key else {}


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[Event]:
    name, data = "", ""
    try:
        async for raw in content:
            field, _, value = raw.decode(errors="replace").rstrip("\r\n").partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data += value
            elif not field and not value and data:  # an empty line ends an event; a ping is a comment
                told = json.loads(data)
                if isinstance(told, dict):
                    yield name, told
                name, data = "", ""
    except (aiohttp.ClientError, OSError, ValueError):  # broken off, silent, or no event after all
        return
