"""Paginators of REST sources: the keys of ``paginator``, and the URLs of the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from recserver._internal.chefs.rest.entry_types import (
    EntryPart,
    FirstPage,
    HeaderName,
    Parameter,
    SelectorPath,
    check_type_key,
    value_at_path,
)
from recserver._internal.core.errors import SourceFailed
from recserver._internal.core.validation.values import PageSize

if TYPE_CHECKING:
    from yarl import URL

    from recserver._internal.chefs.rest.http_client import Response


class _Paginator(EntryPart):
    suspect: ClassVar[str] = "the paginator"
    """What to correct if the source returns the same page again."""

    parameter_keys: ClassVar[tuple[str, ...]] = ()
    """Keys with the names of query parameters, which must differ."""


class NumberedPaginator(_Paginator):
    """A paginator whose URLs are known beforehand."""

    page_size: PageSize = 100

    def page_url(self, base: URL, index: int) -> URL:
        """The URL of the page at ``index``, counted from 0."""
        raise NotImplementedError


class PageNumber(NumberedPaginator):
    """``?page=1&size=100``, then 2, 3, …"""

    suspect = "the name of its page parameter (page_param)"
    parameter_keys = ("page_param", "size_param")

    type: Literal["page_number"]
    page_param: Parameter = "page"
    size_param: Parameter = "size"
    first_page: FirstPage = 1

    def page_url(self, base: URL, index: int) -> URL:
        return base.update_query(
            {self.page_param: str(self.first_page + index), self.size_param: str(self.page_size)}
        )


class Offset(NumberedPaginator):
    """``?offset=0&limit=100``, then 100, 200, …"""

    suspect = "the name of its offset parameter (offset_param)"
    parameter_keys = ("offset_param", "limit_param")

    type: Literal["offset"]
    offset_param: Parameter = "offset"
    limit_param: Parameter = "limit"

    def page_url(self, base: URL, index: int) -> URL:
        return base.update_query(
            {self.offset_param: str(index * self.page_size), self.limit_param: str(self.page_size)}
        )


class LinkedPaginator(_Paginator):
    """A paginator that finds the URL of each page in the response before it."""

    def first_url(self, base: URL) -> URL:
        """The URL of the first page."""
        return base

    def next_value(self, response: Response, document: Any) -> object:
        """The link or cursor of the next page in a response; empty or None if there is none.

        Args:
            document: the decoded body, if it is one JSON document.
        """
        raise NotImplementedError

    def next_url(self, current: URL, response: Response, document: Any, source: str) -> URL | None:
        """The URL of the next page; None after the last one.

        Args:
            current: the URL of this page.
            document: the decoded body, if it is one JSON document.
            source: the source's name in messages.

        Raises:
            SourceFailed: if the response has an invalid URL.
        """
        from yarl import URL

        value = self.next_value(response, document)
        if value in (None, "", False):
            return None
        if not isinstance(value, str):
            raise SourceFailed(f"{source} returned no URL for its next page: correct the paginator.")
        try:
            return current.join(URL(value)).with_fragment(None)
        except ValueError:
            raise SourceFailed(
                f"{source} returned an invalid URL for its next page: correct it at the source."
            ) from None


class _CursorPaginator(LinkedPaginator):
    suspect = "the name of its cursor parameter (cursor_param)"

    cursor_param: Parameter = "cursor"

    def next_url(self, current: URL, response: Response, document: Any, source: str) -> URL | None:
        value = self.next_value(response, document)
        if value in (None, "", False) or isinstance(value, list | dict):
            return None
        return current.update_query({self.cursor_param: str(value)})


class Cursor(_CursorPaginator):
    """The value at ``cursor_path`` in the response body is sent as ``cursor_param`` with the next request."""

    parameter_keys = ("cursor_param", "size_param")

    type: Literal["cursor"]
    cursor_path: SelectorPath
    size_param: Parameter | None = None
    page_size: PageSize = 100

    def first_url(self, base: URL) -> URL:
        return base.update_query({self.size_param: str(self.page_size)}) if self.size_param else base

    def next_value(self, response: Response, document: Any) -> object:
        return value_at_path(document, self.cursor_path)


class JsonLink(LinkedPaginator):
    """The value at ``next_path`` in the response body is the URL of the next page."""

    type: Literal["json_link"]
    next_path: SelectorPath = "next"

    def next_value(self, response: Response, document: Any) -> object:
        return value_at_path(document, self.next_path)


class HeaderLink(LinkedPaginator):
    """The ``Link`` header (RFC 8288) has the URL of the next page, as ``rel="next"``."""

    type: Literal["header_link"]

    def next_value(self, response: Response, document: Any) -> object:
        return response.next_link


class HeaderCursor(_CursorPaginator):
    """The value of the header ``header`` is sent as ``cursor_param`` with the next request."""

    type: Literal["header_cursor"]
    header: HeaderName

    def next_value(self, response: Response, document: Any) -> object:
        return response.headers.get(self.header)


Paginator = Annotated[
    PageNumber | Offset | Cursor | JsonLink | HeaderLink | HeaderCursor,
    Field(discriminator="type"),
    BeforeValidator(
        check_type_key("page_number", "offset", "cursor", "json_link", "header_link", "header_cursor")
    ),
]
