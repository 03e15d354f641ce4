"""Fetches the pages of a REST source in order: linked pages one by one, numbered pages concurrently."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection
from typing import TYPE_CHECKING

from recserver._internal.chefs.rest.error_messages import PageNotFound, source_name
from recserver._internal.chefs.rest.http_client import HttpClient, Response, check_url_at_read
from recserver._internal.chefs.rest.json_pages import EMPTY_RESPONSE, FastPageDecoder, Page, parse_page
from recserver._internal.chefs.rest.json_stream import WRAPPER_KEYS
from recserver._internal.chefs.rest.pagination_hints import missing_next_hints, short_page_hints
from recserver._internal.chefs.rest.paginators import LinkedPaginator, NumberedPaginator
from recserver._internal.chefs.rest.rest_entry import ApiEntry
from recserver._internal.core.errors import SourceFailed

if TYPE_CHECKING:
    from yarl import URL

MAX_PAGES = 100_000
MAX_PAGE_BYTES = 64 * 2**20

MAX_EMPTY_PAGES = 100
"""Consecutive pages without rows that name a next page."""

MAX_REPEATED_ROWS = 10
"""Rows in consecutive equal pages. With more of them, the source seems to ignore the page parameter."""


def fetch_pages(
    spec: ApiEntry, url: URL, client: HttpClient, requested: Collection[str] | None
) -> AsyncGenerator[Page]:
    """The pages of a paginated source.

    Raises:
        SourceFailed: if a page cannot be fetched, or the pagination does not end.
    """
    reader = _PageReader(spec, url, client, requested)
    paginator = spec.effective_paginator
    if isinstance(paginator, NumberedPaginator):
        return reader.numbered(paginator)
    assert paginator is not None  # noqa: S101 - for the type checker
    return reader.linked(paginator)


class _PageReader:
    def __init__(self, spec: ApiEntry, url: URL, client: HttpClient, requested: Collection[str] | None) -> None:
        self._spec, self._url, self._client, self._requested = spec, url, client, requested
        self._source = source_name(url)
        self._previous_page: object = None
        self._repeated_pages = 0
        self._fast_decoder: FastPageDecoder | None = None
        self._has_more_known = self._first_is_message = False

    async def numbered(self, paginator: NumberedPaginator) -> AsyncGenerator[Page]:
        """Numbered pages, up to the last one.

        A page without rows is the last. Otherwise ``has_next`` of its wrapper decides; without it, whether
        ``next`` is set. A page with neither is the last if an earlier page had one, or if it is short. A 404 after
        a full page is the end as well.
        """
        pending: deque[asyncio.Task[tuple[Response, Page]]] = deque()
        n_requested = 0
        try:
            for index in range(MAX_PAGES):
                max_pending = 1 if index == 0 else self._spec.concurrent_pages
                while len(pending) < max_pending and n_requested < MAX_PAGES:
                    pending.append(asyncio.ensure_future(self._fetch(paginator.page_url(self._url, n_requested))))
                    n_requested += 1
                try:
                    response, page = await pending.popleft()
                except PageNotFound:
                    if index == 0:
                        raise
                    return  # after a full page
                self._check_content(page, index)
                if index == 0:
                    key = "page_size (size_value)" if self._spec.paginated else "page_size"
                    page.hints = short_page_hints(page, paginator.page_size, key)
                yield page
                if not self._has_next(page, paginator.page_size):
                    return
                self._check_repetition(response, page, paginator)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        raise self._too_many_pages()

    async def linked(self, paginator: LinkedPaginator) -> AsyncGenerator[Page]:
        """Pages that each have a link or cursor for the next one.

        A page without rows whose next page was already read is the last: some sources always return a link.
        """
        url = paginator.first_url(self._url)
        seen: set[str] = set()
        n_empty = 0
        for index in range(MAX_PAGES):
            response, page = await self._fetch(url)
            self._check_content(page, index)
            if index == 0 and page.size:
                page.hints = missing_next_hints(paginator, response, page.document)
            yield page
            seen.add(str(url))
            target = paginator.next_url(url, response, page.document, self._source)
            if target is None:
                return
            url = check_url_at_read(
                str(target), self._client.policy, f"{self._source} names a next page that is refused"
            )
            n_empty = 0 if page.size else n_empty + 1
            if n_empty and str(url) in seen:
                return
            if n_empty >= MAX_EMPTY_PAGES:
                end = f"Reading ended after {n_empty} consecutive pages without rows"
                yield Page(hints=(f"{end}, although the source names a next page.",))
                return
            if str(url) in seen:
                raise SourceFailed(
                    f"{self._source} names a next page that was already read: correct {paginator.suspect}, or the "
                    "source."
                )
            self._check_repetition(response, page, paginator)
        raise self._too_many_pages()

    async def _fetch(self, url: URL) -> tuple[Response, Page]:
        response = await self._client.get(url, MAX_PAGE_BYTES)
        if response.remaining is not None:
            await response.remaining.aclose()
            raise SourceFailed(
                f"{self._source} has a page of more than {MAX_PAGE_BYTES >> 20} MiB: request smaller ones."
            )
        if self._fast_decoder is not None and (page := self._fast_decoder.decode(response.body)) is not None:
            return response, page
        page = parse_page(response.body, self._requested, self._spec.data_selector, self._source)
        if page.is_message and any(page.document.get(key, ()) is None for key in WRAPPER_KEYS):
            # some servers return null for an empty array
            page = Page(column_names=page.column_names, has_more=page.has_more, document=page.document)
        if isinstance(page.document, list) and page.n_rows and self._fast_decoder is None:
            self._fast_decoder = FastPageDecoder(page, self._requested)
        return response, page

    def _too_many_pages(self) -> SourceFailed:
        return SourceFailed(f"{self._source} has more than {MAX_PAGES} pages: request larger ones.")

    def _check_content(self, page: Page, index: int) -> None:
        if not page.has_content and index == 0:
            raise SourceFailed(f"{self._source} {EMPTY_RESPONSE}")
        if index == 0:
            self._first_is_message = page.is_message
        elif page.is_message and not self._first_is_message:
            raise SourceFailed(
                f"{self._source} returned an object without rows as page {index + 1}, probably an error: check "
                "that page, and try again."
            )

    def _has_next(self, page: Page, size: int) -> bool:
        if page.size == 0:
            return False
        known, self._has_more_known = self._has_more_known, self._has_more_known or page.has_more is not None
        if page.has_more is not None:
            return page.has_more
        return not known and page.size >= size

    def _check_repetition(
        self, response: Response, page: Page, paginator: NumberedPaginator | LinkedPaginator
    ) -> None:
        content = response.body if page.rows is None else page.rows
        try:
            self._repeated_pages = self._repeated_pages + 1 if content == self._previous_page else 0
        except RecursionError:  # deeply nested rows are rejected later
            self._repeated_pages = 0
        self._previous_page = content
        if self._repeated_pages * page.size >= MAX_REPEATED_ROWS:
            other = "set paginated to false" if self._spec.paginated else "the source"
            raise SourceFailed(
                f"{self._source} returns the same page again and again: correct {paginator.suspect}, or {other}."
            )
