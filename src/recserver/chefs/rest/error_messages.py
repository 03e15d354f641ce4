"""What went wrong over HTTP, in our sentences: the texts of libraries quote URLs and answers."""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from recserver.chefs.secrets import mask_url
from recserver.core.clock import SystemClock
from recserver.core.errors import SourceFailed, quoted

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

MAX_RETRY_AFTER = 300.0
"""Seconds before another try that a source may ask for."""

_PERMANENT_STATUSES = frozenset({HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED})


class TransientFailure(SourceFailed):
    """A failure that may be over in a moment."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message, transient=True, retry_after=retry_after)


class PageNotFound(SourceFailed):
    """The source answered 404."""


def source_name(url: URL) -> str:
    """How sentences call what is fetched: its masked URL, shortened."""
    return f"The source {quoted(mask_url(str(url)))}"


def redirect_name(first: URL, target: URL) -> str:
    """How sentences call what a redirect led to."""
    return f"The address {quoted(mask_url(str(target)))}, to which {quoted(mask_url(str(first)))} redirects,"


def url_error_reason(error: ValueError, subject: str = "it") -> str:
    """The reason that :func:`recserver.chefs.rest.http_client.check_url` gives, as a part of a sentence."""
    return f"{subject} {error}" if str(error).startswith("must ") else str(error)


def check_status(response: aiohttp.ClientResponse, source: str, *, may_be_unchanged: bool) -> None:
    """Nothing, if there is an answer to read.

    Raises:
        SourceFailed: with what the status means: a :class:`Transient` one where another try may help.
    """
    status = response.status
    if 200 <= status < 300 or (status == HTTPStatus.NOT_MODIFIED and may_be_unchanged):
        return
    known = status in HTTPStatus._value2member_map_
    phrase = f"{status} {HTTPStatus(status).phrase}" if known else str(status)
    says = f"{source} answered {phrase}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status >= 500 and status not in _PERMANENT_STATUSES):
        wait = retry_after_seconds(response.headers.get("Retry-After", ""))
        if wait is not None and wait > MAX_RETRY_AFTER:
            raise SourceFailed(f"{says} and asks to wait {wait:.0f} seconds: train from it less often.")
        cure = "ask it less often" if status == HTTPStatus.TOO_MANY_REQUESTS else "try again once it works"
        raise TransientFailure(f"{says}: {cure}.", wait)
    if status == HTTPStatus.NOT_FOUND:
        raise PageNotFound(f"{says}: check the address and its credentials.")
    cure = "try again once it works" if status >= 500 else "check the address and its credentials"
    raise SourceFailed(f"{says}: {cure}.")


def retry_after_seconds(text: str) -> float | None:
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


def connection_error(error: Exception, source: str, connect_seconds: float, read_seconds: float) -> SourceFailed:
    """What a fault of the connection means: a :class:`Transient` one where another try may help."""
    import aiohttp

    lasting: tuple[tuple[type[Exception], str], ...] = (
        (aiohttp.ClientConnectorCertificateError, "has no valid TLS certificate: correct it there"),
        (aiohttp.ClientSSLError, "does not speak TLS: check http or https"),
        (aiohttp.ClientConnectorDNSError, "has a host that cannot be found: correct its name"),
        (aiohttp.ContentTypeError, "answered in a compression that is not valid: correct it there"),
    )
    passing: tuple[tuple[type[Exception], str], ...] = (
        (aiohttp.ConnectionTimeoutError, f"did not accept a connection within {connect_seconds:g} seconds"),
        (TimeoutError, f"sent nothing for {read_seconds:g} seconds: see what keeps it"),
        (aiohttp.ClientConnectorError, "refused the connection: see that it runs"),
        (aiohttp.ClientPayloadError, "broke off in the middle of its answer: try again"),
        (aiohttp.ServerDisconnectedError, "closed the connection without an answer: try again"),
    )
    for kind, sentence in lasting:
        if isinstance(error, kind):
            return SourceFailed(f"{source} {sentence}.")
    for kind, sentence in passing:
        if isinstance(error, kind):
            return TransientFailure(f"{source} {sentence}.")
    if isinstance(error, aiohttp.ClientResponseError):
        return SourceFailed(
            f"{source} answered with something that is not HTTP, or in a compression that is not understood: "
            "check the address."
        )
    return SourceFailed(f"{source} could not be fetched: check the address.")
