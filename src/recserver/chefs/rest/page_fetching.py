"""The pages of a REST source, in order: one after the other, or numbered ones several at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection
from typing import TYPE_CHECKING

from recserver.chefs.rest.error_messages import PageNotFound, source_name
from recserver.chefs.rest.http_client import HttpClient, Response, check_next_url
from recserver.chefs.rest.json_pages import FastPageDecoder, Page, parse_page
from recserver.chefs.rest.json_stream import WRAPPER_KEYS
from recserver.chefs.rest.paginators import (
    LinkedPaginator,
    NumberedPaginator,
    empty_pages_hint,
    first_url,
    missing_next_hints,
    next_url,
    numbered_url,
    short_page_hint,
)
from recserver.chefs.rest.rest_entry import ApiEntry, Cursor, HeaderCursor, Offset, PageNumber
from recserver.core.errors import SourceFailed

if TYPE_CHECKING:
    from yarl import URL

MAX_PAGES = 100_000
MAX_PAGE_BYTES = 64 * 2**20
"""Bytes."""

MAX_EMPTY_PAGES = 100
"""Pages without rows, one after the other, that still name a next one."""

MAX_REPEATED_ROWS = 10
"""Pages equal to the one before, with so many rows together, show that a parameter is ignored."""


def fetch_pages(
    spec: ApiEntry, url: URL, client: HttpClient, wanted: Collection[str] | None
) -> AsyncGenerator[Page]:
    """Every page of a source that has pages.

    Raises:
        SourceFailed: if one cannot be had, or they do not end.
    """
    reading = _PageReader(spec, url, client, wanted)
    if isinstance(spec.effective_paginator, PageNumber | Offset):
        return reading.numbered(spec.effective_paginator)
    assert spec.effective_paginator is not None  # noqa: S101 - for the type checker
    return reading.chained(spec.effective_paginator)


class _PageReader:
    def __init__(self, spec: ApiEntry, url: URL, client: HttpClient, wanted: Collection[str] | None) -> None:
        self._spec, self._url, self._client, self._wanted = spec, url, client, wanted
        self._source = source_name(url)
        self._previous_page: object = None
        self._repeated_pages = 0
        self._fast_decoder: FastPageDecoder | None = None
        self._has_more_known = self._first_is_message = False

    async def numbered(self, paginator: NumberedPaginator) -> AsyncGenerator[Page]:
        """Pages with numbers. After a page without rows there are none. Else a wrapper's ``has_next`` decides;
        without it, whether its ``next`` leads anywhere; and where a page says neither, it is the last if an
        earlier page did, or if it is short. A 404 after a full page is the end as well.
        """
        ahead: deque[asyncio.Task[tuple[Response, Page]]] = deque()
        asked = 0
        try:
            for place in range(MAX_PAGES):
                wanted_ahead = 1 if place == 0 else self._spec.concurrent_pages
                while len(ahead) < wanted_ahead and asked < MAX_PAGES:
                    ahead.append(asyncio.ensure_future(self._fetch(numbered_url(self._url, paginator, asked))))
                    asked += 1
                try:
                    answer, page = await ahead.popleft()
                except PageNotFound:
                    if place == 0:
                        raise
                    return  # only a full page leads here
                self._check_content(page, place)
                if (
                    place == 0
                    and 0 < page.size < paginator.page_size
                    and page.has_more is None
                    and not page.is_message
                ):
                    by_paginator = self._spec.paginator is not None
                    page.hints = (short_page_hint(paginator, page.size, by_paginator=by_paginator),)
                yield page
                if not self._has_next(page, paginator.page_size):
                    return
                self._check_repetition(answer, page, paginator)
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
        raise SourceFailed(f"{self._source} has more than {MAX_PAGES} pages: ask for larger ones.")

    async def chained(self, paginator: LinkedPaginator) -> AsyncGenerator[Page]:
        """Pages each of which says where the next one is, be it without rows. An empty one that names no new
        page is the end: some sources name one always.
        """
        url = first_url(self._url, paginator)
        seen: set[str] = set()
        empty = 0
        for place in range(MAX_PAGES):
            answer, page = await self._fetch(url)
            self._check_content(page, place)
            if place == 0 and page.size:
                page.hints = missing_next_hints(paginator, answer, page.document)
            yield page
            seen.add(str(url))
            target = next_url(url, paginator, answer, page.document, self._source)
            if target is None:
                return
            url = check_next_url(target, self._client.policy, self._source)
            empty = 0 if page.size else empty + 1
            if empty and str(url) in seen:
                return
            if empty >= MAX_EMPTY_PAGES:
                yield Page(hints=(empty_pages_hint(empty),))
                return
            if str(url) in seen:
                raise SourceFailed(
                    f"{self._source} names a page as the next that was read already: correct "
                    f"{_parameter_hint(paginator)}, or the source."
                )
            self._check_repetition(answer, page, paginator)
        raise SourceFailed(f"{self._source} has more than {MAX_PAGES} pages: ask for larger ones.")

    async def _fetch(self, url: URL) -> tuple[Response, Page]:
        answer = await self._client.get(url, MAX_PAGE_BYTES)
        if answer.remaining is not None:
            await answer.remaining.aclose()
            raise SourceFailed(
                f"{self._source} has a page of more than {MAX_PAGE_BYTES >> 20} MiB: ask for smaller ones."
            )
        if self._fast_decoder is not None and (page := self._fast_decoder.decode(answer.body)) is not None:
            return answer, page
        page = parse_page(answer.body, self._wanted, self._spec.data_selector, self._source)
        if page.is_message and any(page.document.get(key, ()) is None for key in WRAPPER_KEYS):
            # some libraries write null for an empty array
            page = Page(column_names=page.column_names, has_more=page.has_more, document=page.document)
        if isinstance(page.document, list) and page.n_rows and self._fast_decoder is None:
            self._fast_decoder = FastPageDecoder(page, self._wanted)
        return answer, page

    def _check_content(self, page: Page, index: int) -> None:
        if not page.has_content and index == 0:
            raise SourceFailed(f"{self._source} gave an empty answer: it must give JSON.")
        if index == 0:
            self._first_is_message = page.is_message
        elif page.is_message and not self._first_is_message:
            raise SourceFailed(
                f"{self._source} gave an object without rows as its page {index + 1}, probably an error: see what "
                "it says there, and try again."
            )

    def _has_next(self, page: Page, size: int) -> bool:
        if page.size == 0:
            return False
        said_more, self._has_more_known = self._has_more_known, self._has_more_known or page.has_more is not None
        if page.has_more is not None:
            return page.has_more
        return not said_more and page.size >= size

    def _check_repetition(
        self, answer: Response, page: Page, paginator: NumberedPaginator | LinkedPaginator
    ) -> None:
        shows = answer.body if page.rows is None else page.rows
        try:
            self._repeated_pages = self._repeated_pages + 1 if shows == self._previous_page else 0
        except RecursionError:  # rows that are nested so deep are judged elsewhere
            self._repeated_pages = 0
        self._previous_page = shows
        if self._repeated_pages * page.size >= MAX_REPEATED_ROWS:
            off = ", or turn paginated off" if self._spec.paginated else ""
            raise SourceFailed(
                f"{self._source} gives the same page again and again: correct "
                f"{_parameter_hint(paginator)}{off or ', or the source'}."
            )


def _parameter_hint(paginator: NumberedPaginator | LinkedPaginator) -> str:
    """What is probably wrong where a source gives the same again."""
    if isinstance(paginator, PageNumber):
        return "the name of its page parameter (page_param)"
    if isinstance(paginator, Offset):
        return "the name of its offset parameter (offset_param)"
    if isinstance(paginator, Cursor | HeaderCursor):
        return "the name of its cursor parameter (cursor_param)"
    return "the paginator"
