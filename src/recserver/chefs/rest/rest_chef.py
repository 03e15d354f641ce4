"""The REST chef: JSON rows from an address, in one answer or in pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from recserver.chefs.chef_entry import column_of, has_reference, probe, read_entry, refused, variable_warnings
from recserver.chefs.protocol import Batch, Rejection
from recserver.chefs.rest.error_messages import source_name, why_refused
from recserver.chefs.rest.http_client import Client, check_url
from recserver.chefs.rest.json_stream import rows_reader
from recserver.chefs.rest.rest_entry import ApiEntry
from recserver.chefs.secrets import expand_environment
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.clock import a_turn
from recserver.core.errors import InvalidInput, SourceFailed, SourceUnchanged

if TYPE_CHECKING:
    from yarl import URL

    from recserver.chefs.rest.json_pages import Page

LARGEST_WHOLE = 8 * 2**20
"""Bytes of a single answer that is decoded at once; a larger one is taken apart as it arrives."""

NO_OBJECT = "is no JSON object"


class ApiChef:
    """Fetches JSON over HTTP. See :class:`recserver.chefs.Chef` and :mod:`recserver.chefs.rest.json_stream`.

    Where there are no pages, it is a :class:`recserver.chefs.ConditionalChef`: ``validators`` hold the source's
    ETag and the time of its last change.
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
            check_url(probe(spec.url), policy)
        except ValueError as error:
            raise refused("url", error) from None

    def warnings(self) -> list[str]:
        return variable_warnings(self._entry)

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        spec, url = self._now()
        client = Client(self._policy, url, spec.request_headers())
        rows = _Rows(client)
        stream = self._stream(spec, url, rows, wanted)
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
                if rows.waiting:  # they count as read
                    yield rows.batch()
                raise
            except TimeoutError:
                if rows.waiting:
                    yield rows.batch()
                raise SourceFailed(
                    f"{source_name(url)} took longer than {self._policy.source_timeout:g} seconds: ask it for "
                    "less, or raise RECSERVER_SOURCE_TIMEOUT."
                ) from None
            finally:
                runner.run(close())

    def _now(self) -> tuple[ApiEntry, URL]:
        """The entry with its variables replaced, and its URL, both checked.

        Raises:
            SourceFailed: with what is wrong with them.
        """
        try:
            spec = read_entry(ApiEntry, expand_environment(self._entry))
            _check_auth(spec)
        except InvalidInput as error:
            raise SourceFailed(f"The data chef cannot be used: {error}") from None
        try:
            return spec, check_url(spec.url, self._policy)
        except ValueError as error:
            raise SourceFailed(f"The source's url cannot be fetched: {why_refused(error)}.") from None

    async def _stream(
        self, spec: ApiEntry, url: URL, rows: _Rows, wanted: Collection[str] | None
    ) -> AsyncGenerator[Batch]:
        from recserver.chefs.rest.page_fetching import pages

        async with rows.client as client:
            parts = (
                self._one_answer(spec, url, client, wanted)
                if spec.pages is None
                else pages(spec, url, client, wanted)
            )
            async with aclosing(parts):
                async for page in parts:
                    rows.add(page)
                    if rows.waiting >= self._policy.batch_rows:
                        yield rows.batch()
            yield rows.batch()

    async def _one_answer(
        self, spec: ApiEntry, url: URL, client: Client, wanted: Collection[str] | None
    ) -> AsyncGenerator[Page]:
        """The rows of a source without pages, in one part if it is small."""
        from recserver.chefs.rest.json_pages import in_parts, page_of, whole_page

        source = source_name(url)
        answer = await client.get(url, LARGEST_WHOLE, self._conditions())
        if answer.status == 304:
            raise SourceUnchanged(f"{source} says that nothing has changed since the last training.")
        tags = {"etag": answer.headers.get("ETag"), "last_modified": answer.headers.get("Last-Modified")}
        self.validators = {} if answer.redirected else {name: text for name, text in tags.items() if text}
        if answer.rest is None:
            page = whole_page(answer.body, wanted, spec.data_selector, source)
            if not page.started:
                raise SourceFailed(f"{source} gave an empty answer: it must give JSON.")
            yield page
            return
        reader = rows_reader(wanted, source, spec.data_selector)
        async with aclosing(answer.rest) as rest:
            for part in in_parts(answer.body):
                yield page_of(reader.feed(part), wanted)
            async for data in rest:
                yield page_of(reader.feed(data), wanted)
                await a_turn()  # what has arrived already is no waiting, and time must run out all the same
        last = page_of(reader.close(), wanted)
        last.strays, last.found = [""] * reader.strays, tuple(reader.found)
        yield last

    def _conditions(self) -> dict[str, str]:
        names = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
        return {names[name]: text for name, text in self.validators.items() if name in names}


def _check_auth(spec: ApiEntry) -> None:
    try:
        spec.request_headers()
    except ValueError as error:
        raise refused("auth", error) from None


class _Rows:
    """Rows on their way into batches, out of the answers that ``client`` gets."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._counted = 0
        self._hints: tuple[str, ...] = ()
        self._found: dict[str, None] = {}
        self._columns: dict[str, list[Any]] = {}
        self._n_rows = 0
        self._strays: list[str] = []

    @property
    def waiting(self) -> int:
        return self._n_rows + len(self._strays)

    def add(self, page: Page) -> None:
        self._found.update(dict.fromkeys(page.found))
        self._hints += page.hints
        for name in page.columns:
            if name not in self._columns:
                self._columns[name] = [None] * self._n_rows
        for name, values in self._columns.items():
            values.extend(page.columns.get(name) or [None] * page.n_rows)
        self._n_rows += page.n_rows
        self._strays += page.strays

    def batch(self) -> Batch:
        """What is waiting, and all bytes that came since the batch before."""
        hints, self._hints = self._hints, ()
        n_bytes, self._counted = self.client.taken - self._counted, self.client.taken
        example = next(filter(None, self._strays), "")
        left_out = (Rejection(NO_OBJECT, len(self._strays), example),) if self._strays else ()
        columns = {name: column_of(values, from_json=True) for name, values in self._columns.items()}
        self._columns = {name: [] for name in self._columns}
        self._n_rows, self._strays = 0, []
        return Batch(tuple(self._found), columns, n_bytes, left_out, hints)
