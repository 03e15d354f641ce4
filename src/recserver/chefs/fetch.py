"""Fetching from where users say, and from nowhere else: addresses checked, redirects counted, bytes capped."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Self

from recserver.chefs.address_guard import ConnectGuard, host_refusal
from recserver.errors import SourceFailed, shown
from recserver.specs.jobs import SourcePolicy
from recserver.specs.secrets import mask_url

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

MOST_REDIRECTS = 3
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""A source that sends nothing for so long has failed."""
CHUNK = 2**16
LONGEST_URL = 8_000

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

    if len(text) > LONGEST_URL or any(ord(letter) <= 32 or ord(letter) == 127 for letter in text):
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
    if problem := host_refusal(host, allow_private=policy.allow_private_sources):
        raise ValueError(problem)
    return url


class Client:
    """An HTTP client for one reading of one source. Use it as an asynchronous context manager.

    Attributes:
        taken: bytes received so far over all answers, counted after decompression.
    """

    def __init__(self, policy: SourcePolicy) -> None:
        self.taken = 0
        self._policy = policy
        self._guard = ConnectGuard(allow_private=policy.allow_private_sources)

    async def __aenter__(self) -> Self:
        import aiohttp

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

    async def body(self, url: URL) -> AsyncGenerator[bytes]:
        """The bytes of what ``url`` answers, decompressed, redirects followed.

        Raises:
            SourceFailed: for every way in which that can fail; never with a part of the answer.
        """
        import aiohttp

        source = source_name(url)
        self._guard.refused = ""
        try:
            async with aclosing(self._followed(url, source)) as chunks:
                async for data in chunks:
                    self.taken += len(data)
                    if self.taken > self._policy.max_source_bytes:
                        raise SourceFailed(
                            f"{source} sent more than {self._policy.max_source_bytes} bytes: ask it for less, or "
                            "raise RECSERVER_MAX_SOURCE_BYTES."
                        )
                    yield data
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise SourceFailed(self._in_words(error, source)) from None

    async def _followed(self, url: URL, source: str) -> AsyncGenerator[bytes]:
        for _ in range(MOST_REDIRECTS + 1):
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    _check_status(response.status, source)
                    async for data in response.content.iter_chunked(CHUNK):
                        yield data
                    return
                url = self._next_hop(response, source)
        raise SourceFailed(f"{source} redirects more than {MOST_REDIRECTS} times: give the final address.")

    def _next_hop(self, response: aiohttp.ClientResponse, source: str) -> URL:
        from yarl import URL

        try:
            target = response.url.join(URL(response.headers["Location"])).with_fragment(None)
            return check_url(str(target), self._policy)
        except ValueError as error:
            raise SourceFailed(f"{source} redirects to an address that is refused: it {error}.") from None

    def _in_words(self, error: Exception, source: str) -> str:
        """What went wrong, without the texts of libraries: they quote URLs and answers."""
        import aiohttp

        if self._guard.refused and isinstance(error, aiohttp.ClientConnectorError):
            return f"{source} leads to an address that is refused: {self._guard.refused}."
        problem = "could not be fetched: check the address"
        for kind, sentence in (
            (aiohttp.ClientConnectorCertificateError, "has no valid TLS certificate: correct it there"),
            (aiohttp.ClientSSLError, "does not speak TLS: check http or https"),
            (aiohttp.ClientConnectorDNSError, "has a host that cannot be found: correct its name"),
            (aiohttp.ConnectionTimeoutError, f"did not accept a connection within {CONNECT_SECONDS:g} seconds"),
            (TimeoutError, f"sent nothing for {READ_SECONDS:g} seconds: see what keeps it"),
            (aiohttp.ClientConnectorError, "refused the connection: see that it runs"),
            (aiohttp.ContentTypeError, "answered in a compression that is not valid: correct it there"),
            (aiohttp.ClientPayloadError, "broke off in the middle of its answer: try again"),
            (aiohttp.ServerDisconnectedError, "closed the connection without an answer: try again"),
            (aiohttp.ClientResponseError, "answered with something that is not HTTP: check the address"),
        ):
            if isinstance(error, kind):
                problem = sentence
                break
        return f"{source} {problem}."


def source_name(url: URL) -> str:
    """How sentences call what is fetched: its masked URL, shortened."""
    return f"The source {shown(mask_url(str(url)))}"


def _check_status(status: int, source: str) -> None:
    if 200 <= status < 300:
        return
    known = status in HTTPStatus._value2member_map_
    phrase = f"{status} {HTTPStatus(status).phrase}" if known else str(status)
    cure = "try again once it works" if status >= 500 else "check the address and its credentials"
    raise SourceFailed(f"{source} answered {phrase}: {cure}.")
