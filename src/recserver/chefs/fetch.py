"""Fetching from where users say, and from nowhere else: addresses checked, redirects counted, bytes capped."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Self

from recserver.chefs.address_guard import ConnectGuard, host_refusal
from recserver.clock import SystemClock
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

TRIES = 3
LONGEST_WAIT = 300.0
"""Seconds before another try that a source may ask for."""
FIRST_WAIT = 1.0
"""Seconds before the second try, about; twice as long before the third."""

_LASTING = frozenset({HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED})

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


@dataclass(slots=True)
class Answer:
    """What came of one request.

    Attributes:
        status, headers: of the final answer; names of headers in any case.
        next_link: what its ``Link`` header calls the next page, if it does.
        body: the beginning of the content, decompressed.
        rest: what follows; None if ``body`` is all of it. Close it.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    next_link: str | None = None
    redirected: bool = False
    body: bytes = b""
    rest: AsyncGenerator[bytes] | None = None


class Transient(SourceFailed):
    """A failure that may be over in a moment. ``wait`` is how many seconds the source asks for, if it does."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class NotThere(SourceFailed):
    """The source answered 404."""


def check_next(url: URL, policy: SourcePolicy, source: str) -> URL:
    """The address of a next page, if a data chef may fetch it.

    Raises:
        SourceFailed: if not.
    """
    try:
        return check_url(str(url), policy)
    except ValueError as error:
        raise SourceFailed(f"{source} names a next page that is refused: its address {error}.") from None


class Client:
    """An HTTP client for one reading of one source. Use it as an asynchronous context manager.

    Attributes:
        taken: bytes received so far over all answers, counted after decompression.
        policy: what may be reached.
    """

    def __init__(
        self, policy: SourcePolicy, home: URL | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
            home: an address of the source.
            headers: what goes to the origin of ``home``, and to no other: credentials above all.
        """
        self.taken = 0
        self.policy = policy
        self._guard = ConnectGuard(allow_private=policy.allow_private_sources)
        self._origin = home.origin() if home is not None else None
        self._headers = dict(headers or {})

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

    async def get(self, url: URL, most: int, conditions: Mapping[str, str] | None = None) -> Answer:
        """The answer to one request, redirects followed, tried again where that may help.

        Args:
            url: checked already.
            most: bytes of the content that are waited for; what is longer has a ``rest``.
            conditions: headers of a conditional request; then the answer may be 304.

        Raises:
            SourceFailed: for every way in which that can fail; never with a part of the answer.
        """
        import stamina

        def wait_for(error: Exception) -> bool | float:
            if not isinstance(error, Transient):
                return False
            return True if error.wait is None else error.wait

        tried = 0
        try:
            async for attempt in stamina.retry_context(
                on=wait_for, attempts=TRIES, timeout=None, wait_initial=FIRST_WAIT, wait_jitter=FIRST_WAIT
            ):
                with attempt:
                    tried += 1
                    return await self._begin(url, most, conditions or {})
        except Transient as error:
            times = f" It was tried {tried} times." if tried > 1 else ""
            raise SourceFailed(f"{error}{times}") from None
        raise AssertionError("the last attempt returns or raises")

    async def _begin(self, url: URL, most: int, conditions: Mapping[str, str]) -> Answer:
        answer = Answer()
        chunks = self._counted(url, answer, conditions)
        begun = bytearray()
        try:
            async for data in chunks:
                begun += data
                if len(begun) > most:
                    answer.rest = chunks
                    break
        except BaseException:
            await chunks.aclose()
            raise
        answer.body = bytes(begun)
        return answer

    async def _counted(self, url: URL, answer: Answer, conditions: Mapping[str, str]) -> AsyncGenerator[bytes]:
        import aiohttp

        source = source_name(url)
        self._guard.refused = ""
        try:
            async with aclosing(self._followed(url, source, answer, conditions)) as chunks:
                async for data in chunks:
                    self.taken += len(data)
                    if self.taken > self.policy.max_source_bytes:
                        raise SourceFailed(
                            f"{source} sent more than {self.policy.max_source_bytes} bytes: ask it for less, or "
                            "raise RECSERVER_MAX_SOURCE_BYTES."
                        )
                    yield data
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._in_words(error, source) from None

    async def _followed(
        self, url: URL, source: str, answer: Answer, conditions: Mapping[str, str]
    ) -> AsyncGenerator[bytes]:
        for _ in range(MOST_REDIRECTS + 1):
            headers = {**self._headers, **conditions} if url.origin() == self._origin else {}
            async with self._session.get(url, allow_redirects=False, headers=headers) as response:
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    _check_status(response, source, may_be_unchanged=bool(conditions))
                    answer.status, answer.headers = response.status, response.headers
                    link = response.links.get("next")
                    answer.next_link = str(link["url"]) if link and "url" in link else None
                    async for data in response.content.iter_chunked(CHUNK):
                        yield data
                    return
                url = self._next_hop(response, source)
                answer.redirected = True
        raise SourceFailed(f"{source} redirects more than {MOST_REDIRECTS} times: give the final address.")

    def _next_hop(self, response: aiohttp.ClientResponse, source: str) -> URL:
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
            raise SourceFailed(f"{source} redirects to an address that is refused: it {error}.") from None

    def _in_words(self, error: Exception, source: str) -> SourceFailed:
        """What went wrong, without the texts of libraries: they quote URLs and answers."""
        import aiohttp

        if self._guard.refused and isinstance(error, aiohttp.ClientConnectorError):
            return SourceFailed(f"{source} leads to an address that is refused: {self._guard.refused}.")
        for kind, sentence, lasting in (
            (aiohttp.ClientConnectorCertificateError, "has no valid TLS certificate: correct it there", True),
            (aiohttp.ClientSSLError, "does not speak TLS: check http or https", True),
            (aiohttp.ClientConnectorDNSError, "has a host that cannot be found: correct its name", True),
            (
                aiohttp.ConnectionTimeoutError,
                f"did not accept a connection within {CONNECT_SECONDS:g} seconds",
                False,
            ),
            (TimeoutError, f"sent nothing for {READ_SECONDS:g} seconds: see what keeps it", False),
            (aiohttp.ClientConnectorError, "refused the connection: see that it runs", False),
            (
                aiohttp.ContentTypeError,
                "answered in a compression that is not valid: correct it there",
                True,
            ),
            (aiohttp.ClientPayloadError, "broke off in the middle of its answer: try again", False),
            (aiohttp.ServerDisconnectedError, "closed the connection without an answer: try again", False),
            (
                aiohttp.ClientResponseError,
                "answered with something that is not HTTP, or in a compression that is not understood: check the "
                "address",
                True,
            ),
        ):
            if isinstance(error, kind):
                return SourceFailed(f"{source} {sentence}.") if lasting else Transient(f"{source} {sentence}.")
        return SourceFailed(f"{source} could not be fetched: check the address.")


def source_name(url: URL) -> str:
    """How sentences call what is fetched: its masked URL, shortened."""
    return f"The source {shown(mask_url(str(url)))}"


def _check_status(response: aiohttp.ClientResponse, source: str, *, may_be_unchanged: bool) -> None:
    status = response.status
    if 200 <= status < 300 or (status == HTTPStatus.NOT_MODIFIED and may_be_unchanged):
        return
    known = status in HTTPStatus._value2member_map_
    phrase = f"{status} {HTTPStatus(status).phrase}" if known else str(status)
    says = f"{source} answered {phrase}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status >= 500 and status not in _LASTING):
        wait = _asked_wait(response.headers.get("Retry-After", ""))
        if wait is not None and wait > LONGEST_WAIT:
            raise SourceFailed(f"{says} and asks to wait {wait:.0f} seconds: train from it less often.")
        cure = "ask it less often" if status == HTTPStatus.TOO_MANY_REQUESTS else "try again once it works"
        raise Transient(f"{says}: {cure}.", wait)
    if status == HTTPStatus.NOT_FOUND:
        raise NotThere(f"{says}: check the address and its credentials.")
    cure = "try again once it works" if status >= 500 else "check the address and its credentials"
    raise SourceFailed(f"{says}: {cure}.")


def _asked_wait(text: str) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, as a number or a date, and a little more."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = max(0.0, (moment - SystemClock().now()).total_seconds())
    return seconds + random.random() / 10  # noqa: S311 - so that not all come back at once
