"""The REST chef: JSON rows from a URL, in one response or in pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from recserver.chefs.chef_entry import (
    has_reference,
    invalid_field,
    read_entry,
    to_column,
    variable_warnings,
    with_placeholders,
)
from recserver.chefs.protocol import Batch, Rejection
from recserver.chefs.rest.error_messages import source_name, url_error_reason
from recserver.chefs.rest.http_client import HttpClient, check_url
from recserver.chefs.rest.json_stream import make_row_parser
from recserver.chefs.rest.rest_entry import ApiEntry
from recserver.chefs.secrets import expand_environment
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.clock import yield_to_loop
from recserver.core.errors import InvalidInput, SourceFailed, SourceUnchanged

if TYPE_CHECKING:
    from yarl import URL

    from recserver.chefs.rest.json_pages import Page

MAX_BUFFERED_BYTES = 8 * 2**20
"""Bytes up to which a single response is decoded at once; a larger one is parsed as it arrives."""

NOT_AN_OBJECT = "is no JSON object"


class ApiChef:
    """Fetches JSON over HTTP, in the layouts of :mod:`recserver.chefs.rest.json_stream`.

    It implements :class:`recserver.chefs.protocol.Chef`, and without pages
    :class:`recserver.chefs.protocol.ConditionalChef`: ``validators`` are the source's ETag and Last-Modified.
    """

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self.validators: dict[str, str] = {}
        self._entry = dict(entry)
        self._policy = policy
        spec = read_entry(ApiEntry, entry)
        _check_auth(spec)
        if has_reference(spec.url.partition("://")[0]):
            return
        try:
            check_url(with_placeholders(spec.url), policy)
        except ValueError as error:
            raise invalid_field("url", error) from None

    def warnings(self) -> list[str]:
        return variable_warnings(self._entry)

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        spec, url = self._resolve_entry()
        client = HttpClient(self._policy, url, spec.request_headers())
        rows = _BatchBuffer(client)
        stream = self._read_batches(spec, url, rows, wanted)
        with asyncio.Runner() as runner:
            deadline = runner.get_loop().time() + self._policy.source_timeout

            async def step() -> Batch | None:
                async with asyncio.timeout_at(deadline):
                    return await anext(stream, None)

            async def close() -> None:
                await stream.aclose()

            try:
                while batch := runner.run(step()):
                    yield batch
            except SourceFailed:
                if rows.n_pending:  # they count in the data report
                    yield rows.flush()
                raise
            except TimeoutError:
                if rows.n_pending:
                    yield rows.flush()
                raise SourceFailed(
                    f"{source_name(url)} took longer than {self._policy.source_timeout:g} seconds: ask it for "
                    "less, or raise RECSERVER_SOURCE_TIMEOUT."
                ) from None
            finally:
                runner.run(close())

    def _resolve_entry(self) -> tuple[ApiEntry, URL]:
        """The entry with its variables replaced, and its URL, both validated.

        Raises:
            SourceFailed: if one is invalid.
        """
        try:
            spec = read_entry(ApiEntry, expand_environment(self._entry))
            _check_auth(spec)
        except InvalidInput as error:
            raise SourceFailed(f"The data chef cannot be used: {error}") from None
        try:
            return spec, check_url(spec.url, self._policy)
        except ValueError as error:
            raise SourceFailed(f"The source's url cannot be fetched: {url_error_reason(error)}.") from None

    async def _read_batches(
        self, spec: ApiEntry, url: URL, buffer: _BatchBuffer, wanted: Collection[str] | None
    ) -> AsyncGenerator[Batch]:
        from recserver.chefs.rest.page_fetching import fetch_pages

        async with buffer.client as client:
            parts = (
                self._read_single_response(spec, url, client, wanted)
                if spec.effective_paginator is None
                else fetch_pages(spec, url, client, wanted)
            )
            async with aclosing(parts):
                async for page in parts:
                    buffer.add(page)
                    if buffer.n_pending >= self._policy.batch_rows:
                        yield buffer.flush()
            yield buffer.flush()

    async def _read_single_response(
        self, spec: ApiEntry, url: URL, client: HttpClient, wanted: Collection[str] | None
    ) -> AsyncGenerator[Page]:
        """The rows of a source without pages, in one part if the response is small."""
        from recserver.chefs.rest.json_pages import page_from_rows, parse_page, split_body

        source = source_name(url)
        answer = await client.get(url, MAX_BUFFERED_BYTES, self._conditional_headers())
        if answer.status == 304:
            raise SourceUnchanged(f"{source} says that nothing has changed since the last training.")
        tags = {"etag": answer.headers.get("ETag"), "last_modified": answer.headers.get("Last-Modified")}
        self.validators = {} if answer.redirected else {name: text for name, text in tags.items() if text}
        if answer.remaining is None:
            page = parse_page(answer.body, wanted, spec.data_selector, source)
            if not page.has_content:
                raise SourceFailed(f"{source} gave an empty answer: it must give JSON.")
            yield page
            return
        reader = make_row_parser(wanted, source, spec.data_selector)
        async with aclosing(answer.remaining) as rest:
            for part in split_body(answer.body):
                yield page_from_rows(reader.feed(part), wanted)
            async for data in rest:
                yield page_from_rows(reader.feed(data), wanted)
                await yield_to_loop()  # buffered data needs no waiting, but the deadline must apply
        last = page_from_rows(reader.close(), wanted)
        last.non_objects, last.column_names = [""] * reader.n_non_objects, tuple(reader.column_names)
        yield last

    def _conditional_headers(self) -> dict[str, str]:
        names = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
        return {names[name]: text for name, text in self.validators.items() if name in names}


def _check_auth(spec: ApiEntry) -> None:
    try:
        spec.request_headers()
    except ValueError as error:
        raise invalid_field("auth", error) from None


class _BatchBuffer:
    """Collects pages into batches."""

    def __init__(self, client: HttpClient) -> None:
        self.client = client
        self._bytes_reported = 0
        self._hints: tuple[str, ...] = ()
        self._column_names: dict[str, None] = {}
        self._columns: dict[str, list[Any]] = {}
        self._n_rows = 0
        self._non_objects: list[str] = []

    @property
    def n_pending(self) -> int:
        return self._n_rows + len(self._non_objects)

    def add(self, page: Page) -> None:
        self._column_names.update(dict.fromkeys(page.column_names))
        self._hints += page.hints
        for name in page.columns:
            if name not in self._columns:
                self._columns[name] = [None] * self._n_rows
        for name, values in self._columns.items():
            values.extend(page.columns.get(name) or [None] * page.n_rows)
        self._n_rows += page.n_rows
        self._non_objects += page.non_objects

    def flush(self) -> Batch:
        """The pending rows as a batch, with the bytes received since the one before."""
        hints, self._hints = self._hints, ()
        n_bytes, self._bytes_reported = (
            self.client.bytes_received - self._bytes_reported,
            self.client.bytes_received,
        )
        example = next(filter(None, self._non_objects), "")
        left_out = (Rejection(NOT_AN_OBJECT, len(self._non_objects), example),) if self._non_objects else ()
        columns = {name: to_column(values, from_json=True) for name, values in self._columns.items()}
        self._columns = {name: [] for name in self._columns}
        self._n_rows, self._non_objects = 0, []
        return Batch(tuple(self._column_names), columns, n_bytes, left_out, hints)
