"""The REST chef, which fetches JSON rows over HTTP, in one response or in pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from recserver._internal.chefs.chef_entry import (
    NOT_AN_OBJECT,
    expand_entry,
    has_reference,
    invalid_field,
    read_entry,
    to_column,
    variable_warnings,
    with_placeholders,
)
from recserver._internal.chefs.protocol import Batch, Rejection
from recserver._internal.chefs.rest.error_messages import source_name
from recserver._internal.chefs.rest.http_client import HttpClient, check_url, check_url_at_read
from recserver._internal.chefs.rest.json_pages import EMPTY_RESPONSE, Page, page_from_rows, parse_page, split_body
from recserver._internal.chefs.rest.json_stream import JsonRowParser
from recserver._internal.chefs.rest.rest_entry import ApiEntry
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.clock import yield_to_loop
from recserver._internal.core.errors import SourceFailed, SourceUnchanged

if TYPE_CHECKING:
    from yarl import URL

MAX_BUFFERED_BYTES = 8 * 2**20
"""Maximum size of a response that is decoded at once; larger ones are parsed incrementally."""

VALIDATOR_HEADERS = {"etag": ("ETag", "If-None-Match"), "last_modified": ("Last-Modified", "If-Modified-Since")}
"""Validator → its headers in a response and in a conditional request."""


class ApiChef:
    """Fetches JSON over HTTP, in the layouts of :mod:`recserver._internal.chefs.rest.json_stream`.

    See :class:`recserver._internal.chefs.protocol.Chef`. Without pagination, it is also a
    :class:`recserver._internal.chefs.protocol.ConditionalChef`, whose ``validators`` are ETag and Last-Modified.
    """

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self.validators: dict[str, str] = {}
        self._entry = dict(entry)
        self._policy = policy
        spec = read_entry(ApiEntry, entry)
        if has_reference(spec.url.partition("://")[0]):
            return
        try:
            check_url(with_placeholders(spec.url), policy)
        except ValueError as error:
            raise invalid_field("url", error) from None

    def warnings(self) -> list[str]:
        return variable_warnings(self._entry)

    def batches(self, requested: Collection[str] | None) -> Iterator[Batch]:
        spec = expand_entry(ApiEntry, self._entry)
        url = check_url_at_read(spec.url, self._policy, "The source's url cannot be fetched")
        seconds = self._policy.source_timeout
        client = HttpClient(self._policy, url, spec.request_headers())
        buffer = _BatchBuffer(client)
        stream = self._read_batches(spec, url, buffer, requested)
        with asyncio.Runner() as runner:
            deadline = runner.get_loop().time() + seconds

            async def next_batch() -> Batch | None:
                try:
                    async with asyncio.timeout_at(deadline):
                        return await anext(stream, None)
                except TimeoutError:
                    raise SourceFailed(
                        f"{source_name(url)} took longer than {seconds:g} seconds: request less data, or raise "
                        "RECSERVER_SOURCE_TIMEOUT."
                    ) from None

            async def close() -> None:
                await stream.aclose()

            try:
                while batch := runner.run(next_batch()):
                    yield batch
            except SourceFailed:
                if buffer.n_pending:  # they count in the data report
                    yield buffer.flush()
                raise
            finally:
                runner.run(close())

    async def _read_batches(
        self, spec: ApiEntry, url: URL, buffer: _BatchBuffer, requested: Collection[str] | None
    ) -> AsyncGenerator[Batch]:
        from recserver._internal.chefs.rest.page_fetching import fetch_pages

        async with buffer.client as client:
            pages = (
                self._read_single_response(spec, url, client, requested)
                if spec.effective_paginator is None
                else fetch_pages(spec, url, client, requested)
            )
            async with aclosing(pages):
                async for page in pages:
                    buffer.add(page)
                    if buffer.n_pending >= self._policy.batch_rows:
                        yield buffer.flush()
            yield buffer.flush()

    async def _read_single_response(
        self, spec: ApiEntry, url: URL, client: HttpClient, requested: Collection[str] | None
    ) -> AsyncGenerator[Page]:
        """The rows of a source without pagination; several pages if the response is large."""
        source = source_name(url)
        conditions = {
            VALIDATOR_HEADERS[name][1]: self.validators[name]
            for name in VALIDATOR_HEADERS.keys() & self.validators
        }
        response = await client.get(url, MAX_BUFFERED_BYTES, conditions)
        if response.status == 304:
            raise SourceUnchanged(f"{source} reports that nothing has changed since the last training.")
        tags = {name: response.headers.get(header) for name, (header, _) in VALIDATOR_HEADERS.items()}
        self.validators = {} if response.redirected else {name: text for name, text in tags.items() if text}
        if response.remaining is None:
            page = parse_page(response.body, requested, spec.data_selector, source)
            if not page.has_content:
                raise SourceFailed(f"{source} {EMPTY_RESPONSE}")
            yield page
            return
        parser = JsonRowParser(requested, source, spec.data_selector)
        async with aclosing(response.remaining) as remaining:
            for part in split_body(response.body):
                yield page_from_rows(parser.feed(part), requested)
            async for data in remaining:
                yield page_from_rows(parser.feed(data), requested)
                await yield_to_loop()  # reading buffered data does not, and the deadline must apply
        last = page_from_rows(parser.close(), requested)
        last.n_non_objects, last.column_names = parser.n_non_objects, tuple(parser.column_names)
        yield last


class _BatchBuffer:
    """Collects pages into batches."""

    def __init__(self, client: HttpClient) -> None:
        self.client = client
        self._bytes_reported = 0
        self._pending = Page()

    @property
    def n_pending(self) -> int:
        return self._pending.size

    def add(self, page: Page) -> None:
        pending = self._pending
        pending.column_names = tuple(dict.fromkeys((*pending.column_names, *page.column_names)))
        for name in page.columns:
            pending.columns.setdefault(name, [None] * pending.n_rows)
        for name, values in pending.columns.items():
            values.extend(page.columns.get(name) or [None] * page.n_rows)
        pending.n_rows += page.n_rows
        pending.n_non_objects += page.n_non_objects
        pending.example = pending.example or page.example
        pending.hints += page.hints

    def flush(self) -> Batch:
        """The pending rows as a batch, with the bytes received since the previous batch."""
        page = self._pending
        self._pending = Page(columns={name: [] for name in page.columns}, column_names=page.column_names)
        received = self.client.bytes_received
        n_bytes, self._bytes_reported = received - self._bytes_reported, received
        rejected = (Rejection(NOT_AN_OBJECT, page.n_non_objects, page.example),) if page.n_non_objects else ()
        columns = {name: to_column(values, from_json=True) for name, values in page.columns.items()}
        return Batch(page.column_names, columns, n_bytes, rejected, page.hints)
