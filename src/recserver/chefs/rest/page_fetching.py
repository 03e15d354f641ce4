"""The pages of a REST source, in order: one after the other, or numbered ones several at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection
from typing import TYPE_CHECKING

from recserver.chefs.rest.error_messages import NotThere, source_name
from recserver.chefs.rest.http_client import Answer, Client, check_next
from recserver.chefs.rest.json_pages import LikePages, Page, whole_page
from recserver.chefs.rest.json_stream import WRAPPERS
from recserver.chefs.rest.paginators import (
    Chained,
    Numbered,
    empty_pages_hint,
    first_url,
    lost_chain_hints,
    next_url,
    numbered_url,
    short_page_hint,
)
from recserver.chefs.rest.rest_entry import ApiEntry, Cursor, HeaderCursor, Offset, PageNumber
from recserver.core.errors import SourceFailed

if TYPE_CHECKING:
    from yarl import URL

MOST_PAGES = 100_000
LARGEST_PAGE = 64 * 2**20
"""Bytes."""

MOST_EMPTY = 100
"""Pages without rows, one after the other, that still name a next one."""

SAME_ROWS = 10
"""Pages equal to the one before, with so many rows together, show that a parameter is ignored."""


def pages(spec: ApiEntry, url: URL, client: Client, wanted: Collection[str] | None) -> AsyncGenerator[Page]:
    """Every page of a source that has pages.

    Raises:
        SourceFailed: if one cannot be had, or they do not end.
    """
    reading = _Pages(spec, url, client, wanted)
    if isinstance(spec.pages, PageNumber | Offset):
        return reading.numbered(spec.pages)
    assert spec.pages is not None  # noqa: S101 - for the type checker
    return reading.chained(spec.pages)


class _Pages:
    def __init__(self, spec: ApiEntry, url: URL, client: Client, wanted: Collection[str] | None) -> None:
        self._spec, self._url, self._client, self._wanted = spec, url, client, wanted
        self._source = source_name(url)
        self._before: object = None
        self._same = 0
        self._alike: LikePages | None = None
        self._said_more = self._speaks = False

    async def numbered(self, way: Numbered) -> AsyncGenerator[Page]:
        """Pages with numbers. After a page without rows there are none. Else a wrapper's ``has_next`` decides;
        without it, whether its ``next`` leads anywhere; and where a page says neither, it is the last if an
        earlier page did, or if it is short. A 404 after a full page is the end as well.
        """
        ahead: deque[asyncio.Task[tuple[Answer, Page]]] = deque()
        asked = 0
        try:
            for place in range(MOST_PAGES):
                wanted_ahead = 1 if place == 0 else self._spec.concurrent_pages
                while len(ahead) < wanted_ahead and asked < MOST_PAGES:
                    ahead.append(asyncio.ensure_future(self._fetch(numbered_url(self._url, way, asked))))
                    asked += 1
                try:
                    answer, page = await ahead.popleft()
                except NotThere:
                    if place == 0:
                        raise
                    return  # only a full page leads here
                self._check_begun(page, place)
                if place == 0 and 0 < page.size < way.page_size and page.more is None and not page.speaks:
                    by_paginator = self._spec.paginator is not None
                    page.hints = (short_page_hint(way, page.size, by_paginator=by_paginator),)
                yield page
                if not self._goes_on(page, way.page_size):
                    return
                self._check_progress(answer, page, way)
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
        raise SourceFailed(f"{self._source} has more than {MOST_PAGES} pages: ask for larger ones.")

    async def chained(self, way: Chained) -> AsyncGenerator[Page]:
        """Pages each of which says where the next one is, be it without rows. An empty one that names no new
        page is the end: some sources name one always.
        """
        url = first_url(self._url, way)
        seen: set[str] = set()
        empty = 0
        for place in range(MOST_PAGES):
            answer, page = await self._fetch(url)
            self._check_begun(page, place)
            if place == 0 and page.size:
                page.hints = lost_chain_hints(way, answer, page.document)
            yield page
            seen.add(str(url))
            target = next_url(url, way, answer, page.document, self._source)
            if target is None:
                return
            url = check_next(target, self._client.policy, self._source)
            empty = 0 if page.size else empty + 1
            if empty and str(url) in seen:
                return
            if empty >= MOST_EMPTY:
                yield Page(hints=(empty_pages_hint(empty),))
                return
            if str(url) in seen:
                raise SourceFailed(
                    f"{self._source} names a page as the next that was read already: correct "
                    f"{_parameter_of(way)}, or the source."
                )
            self._check_progress(answer, page, way)
        raise SourceFailed(f"{self._source} has more than {MOST_PAGES} pages: ask for larger ones.")

    async def _fetch(self, url: URL) -> tuple[Answer, Page]:
        answer = await self._client.get(url, LARGEST_PAGE)
        if answer.rest is not None:
            await answer.rest.aclose()
            raise SourceFailed(
                f"{self._source} has a page of more than {LARGEST_PAGE >> 20} MiB: ask for smaller ones."
            )
        if self._alike is not None and (page := self._alike.page(answer.body)) is not None:
            return answer, page
        page = whole_page(answer.body, self._wanted, self._spec.data_selector, self._source)
        if page.speaks and any(page.document.get(key, ()) is None for key in WRAPPERS):
            # some libraries write null for an empty array
            page = Page(found=page.found, more=page.more, document=page.document)
        if isinstance(page.document, list) and page.n_rows and self._alike is None:
            self._alike = LikePages(page, self._wanted)
        return answer, page

    def _check_begun(self, page: Page, place: int) -> None:
        if not page.started and place == 0:
            raise SourceFailed(f"{self._source} gave an empty answer: it must give JSON.")
        if place == 0:
            self._speaks = page.speaks
        elif page.speaks and not self._speaks:
            raise SourceFailed(
                f"{self._source} gave an object without rows as its page {place + 1}, probably an error: see what "
                "it says there, and try again."
            )

    def _goes_on(self, page: Page, size: int) -> bool:
        if page.size == 0:
            return False
        said_more, self._said_more = self._said_more, self._said_more or page.more is not None
        if page.more is not None:
            return page.more
        return not said_more and page.size >= size

    def _check_progress(self, answer: Answer, page: Page, way: Numbered | Chained) -> None:
        shows = answer.body if page.rows is None else page.rows
        try:
            self._same = self._same + 1 if shows == self._before else 0
        except RecursionError:  # rows that are nested so deep are judged elsewhere
            self._same = 0
        self._before = shows
        if self._same * page.size >= SAME_ROWS:
            off = ", or turn paginated off" if self._spec.paginated else ""
            raise SourceFailed(
                f"{self._source} gives the same page again and again: correct "
                f"{_parameter_of(way)}{off or ', or the source'}."
            )


def _parameter_of(way: Numbered | Chained) -> str:
    """What is probably wrong where a source gives the same again."""
    if isinstance(way, PageNumber):
        return "the name of its page parameter (page_param)"
    if isinstance(way, Offset):
        return "the name of its offset parameter (offset_param)"
    if isinstance(way, Cursor | HeaderCursor):
        return "the name of its cursor parameter (cursor_param)"
    return "the paginator"
