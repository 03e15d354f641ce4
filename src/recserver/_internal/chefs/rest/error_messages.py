"""Error messages for failed HTTP requests. Those of libraries are not used: they quote URLs and responses."""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from recserver._internal.chefs.secrets import mask_url
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.errors import SourceFailed, quoted

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

MAX_RETRY_AFTER = 300.0
"""Seconds that a source may ask to wait before a retry."""

_PERMANENT_STATUSES = frozenset({HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED})


class TransientFailure(SourceFailed):
    """A failure after which a retry may succeed."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message, transient=True, retry_after=retry_after)


class PageNotFound(SourceFailed):
    """The source responded with 404."""


def source_name(url: URL) -> str:
    """The name of a source in messages: its URL, masked and shortened."""
    return f"The source {quoted(mask_url(str(url)))}"


def redirect_name(first: URL, target: URL) -> str:
    """The name of a redirect's target in messages."""
    return f"The address {quoted(mask_url(str(target)))}, to which {quoted(mask_url(str(first)))} redirects,"


def check_status(response: aiohttp.ClientResponse, source: str, *, may_be_unchanged: bool) -> None:
    """Check that the status is 2xx, or 304 if ``may_be_unchanged``.

    Raises:
        SourceFailed: for any other status; :class:`TransientFailure` if a retry may succeed.
    """
    status = response.status
    if 200 <= status < 300 or (status == HTTPStatus.NOT_MODIFIED and may_be_unchanged):
        return
    known = status in HTTPStatus._value2member_map_
    phrase = f"{status} {HTTPStatus(status).phrase}" if known else str(status)
    failure = f"{source} responded with {phrase}"
    hint = "try again once it works" if status >= 500 else "check the url and the credentials"
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status >= 500 and status not in _PERMANENT_STATUSES):
        delay = retry_after_seconds(response.headers.get("Retry-After", ""))
        if delay is not None and delay > MAX_RETRY_AFTER:
            raise SourceFailed(f"{failure} and asks to wait {delay:.0f} seconds: train from it less often.")
        hint = "send it fewer requests" if status == HTTPStatus.TOO_MANY_REQUESTS else hint
        raise TransientFailure(f"{failure}: {hint}.", delay)
    raise (PageNotFound if status == HTTPStatus.NOT_FOUND else SourceFailed)(f"{failure}: {hint}.")


def retry_after_seconds(text: str) -> float | None:
    """The delay in a ``Retry-After`` header, a number or a date, plus up to 0.1 s of jitter; None if invalid."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = max(0.0, (moment - SystemClock().now()).total_seconds())
    return seconds + random.random() / 10  # noqa: S311 - jitter, so that clients do not all retry at once


def connection_error(error: Exception, source: str, connect_seconds: float, read_seconds: float) -> SourceFailed:
    """The error for an exception of the HTTP client; a :class:`TransientFailure` if a retry may succeed."""
    import aiohttp

    no_connection = f"did not accept a connection within {connect_seconds:g} seconds"
    no_data = f"sent nothing for {read_seconds:g} seconds: check why it is so slow"
    not_http = "sent a response that is not HTTP, or whose compression is not supported: check the url"
    failures: dict[type[Exception], tuple[type[SourceFailed], str]] = {  # in order: some types are bases of others
        aiohttp.ClientConnectorCertificateError: (SourceFailed, "has no valid TLS certificate: correct it there"),
        aiohttp.ClientSSLError: (SourceFailed, "does not support TLS: check http or https"),
        aiohttp.ClientConnectorDNSError: (SourceFailed, "has a host that cannot be found: correct its name"),
        aiohttp.ContentTypeError: (SourceFailed, "sent a response with invalid compression: correct it there"),
        aiohttp.ConnectionTimeoutError: (TransientFailure, no_connection),
        TimeoutError: (TransientFailure, no_data),
        aiohttp.ClientConnectorError: (TransientFailure, "refused the connection: check that it is running"),
        aiohttp.ClientPayloadError: (TransientFailure, "sent an incomplete response: try again"),
        aiohttp.ServerDisconnectedError: (TransientFailure, "closed the connection without a response: try again"),
        aiohttp.ClientResponseError: (SourceFailed, not_http),
        Exception: (SourceFailed, "could not be fetched: check the url"),
    }
    failure, message = next(found for error_type, found in failures.items() if isinstance(error, error_type))
    return failure(f"{source} {message}.")
