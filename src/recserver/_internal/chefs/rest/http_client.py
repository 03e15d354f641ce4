"""The HTTP client of REST chefs, which checks every address, limits redirects and bytes, and retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from recserver._internal.chefs.rest.error_messages import (
    TransientFailure,
    check_status,
    connection_error,
    redirect_name,
    source_name,
)
from recserver._internal.chefs.rest.link_header import next_link
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.ssrf_guard import GuardedSocketFactory, host_error
from recserver._internal.core.errors import SourceFailed

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

MAX_REDIRECTS = 3
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""Seconds without any data after which a request fails."""
CHUNK_SIZE = 2**16
MAX_URL_CHARS = 8_000

MAX_ATTEMPTS = 3
FIRST_RETRY_DELAY = 1.0
"""Approximate seconds before the second attempt; twice as long before the third."""
MAX_WAIT_SHARE = 0.75
"""Maximum share of the remaining time that may be spent waiting for a retry."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    "Accept": "application/json, application/x-ndjson;q=0.9, */*;q=0.1",
    "User-Agent": "recserver",
}


def check_url(text: str, policy: SourcePolicy) -> URL:
    """``text`` as a URL, if data chefs may fetch it. Host names are not resolved.

    Raises:
        ValueError: if not; the message quotes nothing of the URL but an IP address.
    """
    from yarl import URL

    if len(text) > MAX_URL_CHARS or any(ord(char) <= 32 or ord(char) == 127 for char in text):
        raise ValueError("must be a URL without spaces and control characters, of at most 8000 characters")
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    authority = rest.partition("/")[0].partition("?")[0]
    if "#" in text or "\\" in text:
        raise ValueError("must not contain # or backslashes: write %23 or %5C")
    if "@" in authority or "%" in authority:
        raise ValueError("must have a plain host, without a user name or password before it")
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError:
        host, port, url = None, None, URL()
    if not host or port is None or not 1 <= port <= 65535:
        raise ValueError("must have a host, and a port from 1 to 65535 if any")
    if problem := host_error(host, allow_private=policy.allow_private_sources):
        raise ValueError(problem)
    return url


def check_url_at_read(text: str, policy: SourcePolicy, failure: str) -> URL:
    """As :func:`check_url`, for a source that is being read.

    Raises:
        SourceFailed: in place of ValueError; its message begins with ``failure``.
    """
    try:
        return check_url(text, policy)
    except ValueError as error:
        raise SourceFailed(f"{failure}: {'it ' if str(error).startswith('must ') else ''}{error}.") from None


@dataclass(slots=True)
class Response:
    """One response, after redirects.

    Attributes:
        source: name of its source in messages.
        status: status of the final response.
        headers: headers of the final response; names are case-insensitive.
        next_link: target of its ``Link`` header with ``rel="next"``, if any.
        redirected: whether there was a redirect.
        body: the beginning of the content, decompressed.
        remaining: the rest of the content; None if ``body`` is complete. The caller closes it.
    """

    source: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    next_link: str | None = None
    redirected: bool = False
    body: bytes = b""
    remaining: AsyncGenerator[bytes] | None = None


class HttpClient:
    """The HTTP client for one read of one source. Use it as an asynchronous context manager.

    Attributes:
        bytes_received: total of all responses so far, counted after decompression.
        policy: the limits, and the addresses that may be fetched.
    """

    def __init__(
        self, policy: SourcePolicy, base_url: URL | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
            base_url: the URL of the source.
            headers: sent to the origin of ``base_url`` only, because they may contain credentials.
        """
        self.bytes_received = 0
        self.policy = policy
        self._guard = GuardedSocketFactory(allow_private=policy.allow_private_sources)
        self._origin = base_url.origin() if base_url is not None else None
        self._headers = dict(headers or {})
        self._deadline = 0.0

    async def __aenter__(self) -> Self:
        import aiohttp

        self._deadline = asyncio.get_running_loop().time() + self.policy.source_timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=self._guard),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=3 * CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
            ),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(
        self, url: URL, max_bytes: int, conditional_headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send a GET request, follow redirects, and retry after transient failures.

        Args:
            url: a URL from :func:`check_url`.
            max_bytes: maximum size of ``body``; longer content is left in ``remaining``.
            conditional_headers: headers of a conditional request, for which the response may be 304.

        Raises:
            SourceFailed: for any failure; its message quotes nothing of the response.
        """
        import stamina

        attempts = 0

        def retry_delay(error: Exception) -> bool | float:
            if not isinstance(error, TransientFailure) or not self._can_retry(error.retry_after, attempts):
                return False
            return True if error.retry_after is None else error.retry_after

        try:
            async for attempt in stamina.retry_context(
                on=retry_delay,
                attempts=MAX_ATTEMPTS,
                timeout=None,
                wait_initial=FIRST_RETRY_DELAY,
                wait_jitter=FIRST_RETRY_DELAY,
            ):
                with attempt:
                    attempts += 1
                    return await self._request(url, max_bytes, conditional_headers or {})
        except TransientFailure as error:
            delay = error.retry_after
            too_long = delay and not self._can_retry(delay, attempts)
            delay_text = f" It asks to wait {delay:.0f} seconds." if too_long else ""
            attempts_text = f" It was tried {attempts} times." if attempts > 1 else ""
            raise SourceFailed(f"{error}{delay_text}{attempts_text}", transient=True, retry_after=delay) from None
        raise AssertionError("the last attempt returns or raises")

    def _can_retry(self, requested_delay: float | None, attempts: int) -> bool:
        """Whether enough time remains for another attempt."""
        delay = FIRST_RETRY_DELAY * (2 ** (attempts - 1) + 1) if requested_delay is None else requested_delay
        return delay <= (self._deadline - asyncio.get_running_loop().time()) * MAX_WAIT_SHARE

    async def _request(self, url: URL, max_bytes: int, conditional_headers: Mapping[str, str]) -> Response:
        response = Response(source_name(url))
        chunks = self._read_chunks(url, response, conditional_headers)
        body = bytearray()
        try:
            async for data in chunks:
                body += data
                if len(body) > max_bytes:
                    response.remaining = chunks
                    break
        except BaseException:
            await chunks.aclose()
            raise
        response.body = bytes(body)
        return response

    async def _read_chunks(
        self, url: URL, response: Response, conditional_headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes]:
        import aiohttp

        source = response.source
        self._guard.last_error = ""
        try:
            async with self._open(url, response, conditional_headers) as opened:
                async for data in opened.content.iter_chunked(CHUNK_SIZE):
                    self.bytes_received += len(data)
                    if self.bytes_received > self.policy.max_source_bytes:
                        raise SourceFailed(
                            f"{source} sent more than {self.policy.max_source_bytes} bytes: request less, or "
                            "raise RECSERVER_MAX_SOURCE_BYTES."
                        )
                    yield data
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if self._guard.last_error and isinstance(error, aiohttp.ClientConnectorError):
                raise SourceFailed(
                    f"{response.source} resolves to an address that is refused: {self._guard.last_error}."
                ) from None
            raise connection_error(error, response.source, CONNECT_SECONDS, READ_SECONDS) from None

    @asynccontextmanager
    async def _open(
        self, url: URL, response: Response, conditional_headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Follow redirects to the final response, and store its status and headers in ``response``."""
        first = url
        for _ in range(MAX_REDIRECTS + 1):
            headers = {**self._headers, **conditional_headers} if url.origin() == self._origin else {}
            async with self._session.get(url, allow_redirects=False, headers=headers) as opened:
                if opened.status not in _REDIRECTS or "Location" not in opened.headers:
                    check_status(opened, response.source, may_be_unchanged=bool(conditional_headers))
                    response.status, response.headers = opened.status, opened.headers
                    response.next_link = next_link(opened.headers.getall("Link", []), opened.url)
                    yield opened
                    return
                url = self._redirect_target(opened, response.source)
                response.redirected, response.source = True, redirect_name(first, url)
        raise SourceFailed(f"{source_name(first)} redirects more than {MAX_REDIRECTS} times: give the final url.")

    def _redirect_target(self, response: aiohttp.ClientResponse, source: str) -> URL:
        from yarl import URL

        failure = f"{source} redirects to an address that is refused"
        try:
            target = response.url.join(URL(response.headers["Location"])).with_fragment(None)
        except ValueError:
            raise SourceFailed(f"{failure}: it is not valid. Correct it at the source.") from None
        return check_url_at_read(str(target), self.policy, failure)
