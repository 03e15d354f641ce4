"""Fetching from where users say, and from nowhere else: addresses checked, redirects counted, bytes capped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from recserver.chefs.rest.error_messages import (
    TransientFailure,
    check_status,
    connection_error,
    redirect_name,
    source_name,
    url_error_reason,
)
from recserver.chefs.rest.link_header import next_link
from recserver.chefs.source_policy import SourcePolicy
from recserver.chefs.ssrf_guard import GuardedSocketFactory, host_error
from recserver.core.errors import SourceFailed

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

MAX_REDIRECTS = 3
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""A source that sends nothing for so long has failed."""
CHUNK_SIZE = 2**16
MAX_URL_CHARS = 8_000

MAX_ATTEMPTS = 3
FIRST_RETRY_DELAY = 1.0
"""Seconds before the second try, about; twice as long before the third."""
MAX_WAIT_SHARE = 0.75
"""How much of the time that is left a wait may take: what comes after it takes time as well."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    "Accept": "application/json, application/x-ndjson;q=0.9, */*;q=0.1",
    "User-Agent": "recserver",
}


def check_url(text: str, policy: SourcePolicy) -> URL:
    """The URL that ``text`` is, if a data chef may fetch it as far as its text tells.

    Raises:
        ValueError: with a sentence that repeats nothing of it but an address.
    """
    from yarl import URL

    if len(text) > MAX_URL_CHARS or any(ord(letter) <= 32 or ord(letter) == 127 for letter in text):
        raise ValueError("must be a URL without spaces and control characters, of at most 8000 characters")
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    authority = rest.partition("/")[0].partition("?")[0]
    if "#" in text or "\\" in text:
        raise ValueError("must hold no # and no backslash: write %23 or %5C")
    if "@" in authority or "%" in authority:
        raise ValueError("must hold no user name or password before its host, and a plain host")
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError:
        host, port, url = None, None, URL()
    if not host or port is None or not 1 <= port <= 65535:
        raise ValueError("must name a host, and a port from 1 to 65535 if any")
    if problem := host_error(host, allow_private=policy.allow_private_sources):
        raise ValueError(problem)
    return url


@dataclass(slots=True)
class Response:
    """What came of one request.

    Attributes:
        source: how sentences call where it came from.
        status, headers: of the final answer; names of headers in any case.
        next_link: what its ``Link`` header calls the next page, if it does.
        body: the beginning of the content, decompressed.
        rest: what follows; None if ``body`` is all of it. Close it.
    """

    source: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    next_link: str | None = None
    redirected: bool = False
    body: bytes = b""
    remaining: AsyncGenerator[bytes] | None = None


def check_next_url(url: URL, policy: SourcePolicy, source: str) -> URL:
    """The address of a next page, if a data chef may fetch it.

    Raises:
        SourceFailed: if not.
    """
    try:
        return check_url(str(url), policy)
    except ValueError as error:
        why = url_error_reason(error, "its address")
        raise SourceFailed(f"{source} names a next page that is refused: {why}.") from None


class HttpClient:
    """An HTTP client for one reading of one source. Use it as an asynchronous context manager.

    Attributes:
        taken: bytes received so far over all answers, counted after decompression.
        policy: what may be reached.
    """

    def __init__(
        self, policy: SourcePolicy, base_url: URL | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
            home: an address of the source.
            headers: what goes to the origin of ``home``, and to no other: credentials above all.
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(
        self, url: URL, max_bytes: int, conditional_headers: Mapping[str, str] | None = None
    ) -> Response:
        """The answer to one request, redirects followed, tried again where that may help.

        Args:
            url: checked already.
            most: bytes of the content that are waited for; what is longer has a ``rest``.
            conditions: headers of a conditional request; then the answer may be 304.

        Raises:
            SourceFailed: for every way in which that can fail; never with a part of the answer.
        """
        import stamina

        tried = 0

        def wait_for(error: Exception) -> bool | float:
            if not isinstance(error, TransientFailure) or not self._can_retry(error.retry_after, tried):
                return False
            return True if error.retry_after is None else error.retry_after

        try:
            async for attempt in stamina.retry_context(
                on=wait_for,
                attempts=MAX_ATTEMPTS,
                timeout=None,
                wait_initial=FIRST_RETRY_DELAY,
                wait_jitter=FIRST_RETRY_DELAY,
            ):
                with attempt:
                    tried += 1
                    return await self._request(url, max_bytes, conditional_headers or {})
        except TransientFailure as error:
            wait = error.retry_after
            asks = f" It asks to wait {wait:.0f} seconds." if wait and not self._can_retry(wait, tried) else ""
            times = f" It was tried {tried} times." if tried > 1 else ""
            raise SourceFailed(f"{error}{asks}{times}", transient=True, retry_after=wait) from None
        raise AssertionError("the last attempt returns or raises")

    def _can_retry(self, requested_delay: float | None, attempts: int) -> bool:
        """Whether there is time for another try after so many."""
        wait = FIRST_RETRY_DELAY * (2 ** (attempts - 1) + 1) if requested_delay is None else requested_delay
        return wait <= (self._deadline - asyncio.get_running_loop().time()) * MAX_WAIT_SHARE

    async def _request(self, url: URL, max_bytes: int, conditional_headers: Mapping[str, str]) -> Response:
        answer = Response()
        chunks = self._limited_chunks(url, answer, conditional_headers)
        begun = bytearray()
        try:
            async for data in chunks:
                begun += data
                if len(begun) > max_bytes:
                    answer.remaining = chunks
                    break
        except BaseException:
            await chunks.aclose()
            raise
        answer.body = bytes(begun)
        return answer

    async def _limited_chunks(
        self, url: URL, response: Response, conditional_headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes]:
        import aiohttp

        response.source = source = source_name(url)
        self._guard.last_error = ""
        try:
            async with aclosing(self._follow_redirects(url, response, conditional_headers)) as chunks:
                async for data in chunks:
                    self.bytes_received += len(data)
                    if self.bytes_received > self.policy.max_source_bytes:
                        raise SourceFailed(
                            f"{source} sent more than {self.policy.max_source_bytes} bytes: ask it for less, or "
                            "raise RECSERVER_MAX_SOURCE_BYTES."
                        )
                    yield data
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if self._guard.last_error and isinstance(error, aiohttp.ClientConnectorError):
                raise SourceFailed(
                    f"{response.source} leads to an address that is refused: {self._guard.last_error}."
                ) from None
            raise connection_error(error, response.source, CONNECT_SECONDS, READ_SECONDS) from None

    async def _follow_redirects(
        self, url: URL, answer: Response, conditional_headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes]:
        first = url
        for _ in range(MAX_REDIRECTS + 1):
            headers = {**self._headers, **conditional_headers} if url.origin() == self._origin else {}
            async with self._session.get(url, allow_redirects=False, headers=headers) as response:
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    check_status(response, answer.source, may_be_unchanged=bool(conditional_headers))
                    answer.status, answer.headers = response.status, response.headers
                    answer.next_link = next_link(response.headers.getall("Link", []), response.url)
                    async for data in response.content.iter_chunked(CHUNK_SIZE):
                        yield data
                    return
                url = self._redirect_target(response, answer.source)
                answer.redirected, answer.source = True, redirect_name(first, url)
        raise SourceFailed(
            f"{source_name(first)} redirects more than {MAX_REDIRECTS} times: give the final address."
        )

    def _redirect_target(self, response: aiohttp.ClientResponse, source: str) -> URL:
        from yarl import URL

        try:
            target = response.url.join(URL(response.headers["Location"])).with_fragment(None)
        except ValueError:
            raise SourceFailed(
                f"{source} redirects to an address that is refused: it is none. Correct it there."
            ) from None
        try:
            return check_url(str(target), self.policy)
        except ValueError as error:
            why = url_error_reason(error)
            raise SourceFailed(f"{source} redirects to an address that is refused: {why}.") from None
