"""The REST chef: JSON rows from an address, in one answer or in numbered pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import StringConstraints

from recserver.chefs import BATCH_ROWS, Batch
from recserver.chefs.entries import (
    ChefEntry,
    has_reference,
    object_column,
    probe,
    read_entry,
    refused,
    variable_warnings,
)
from recserver.chefs.fetch import Client, check_url, source_name
from recserver.chefs.json_rows import JsonRows, Row
from recserver.errors import InvalidInput, SourceFailed
from recserver.specs.jobs import SourcePolicy
from recserver.specs.secrets import expand_environment
from recserver.specs.values import PageSize, Switch, Text

if TYPE_CHECKING:
    from yarl import URL

MOST_PAGES = 100_000
SAME_ROWS = 10
"""Pages equal to the one before, with so many rows together, show that the page parameter is ignored."""


Parameter = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=100)]


class ApiEntry(ChefEntry):
    """``url, paginated, rename_columns``; if paginated ``page_param, size_param, page_size``."""

    url: Text
    paginated: Switch = False
    page_param: Parameter = "page"
    size_param: Parameter = "size"
    page_size: PageSize = 100


class ApiChef:
    """Fetches JSON over HTTP. See :class:`recserver.chefs.Chef` and :mod:`recserver.chefs.json_rows`.

    Pages are asked for from number 1 on. After a page without rows there are none. Else a wrapper's ``has_next``
    decides; without it, whether its ``next`` leads anywhere; and where a page says neither, it ends if an
    earlier page did, or if the page is short. A row that is no object has no column: every value is None.
    """

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self._entry = dict(entry)
        self._policy = policy
        spec = read_entry(ApiEntry, entry)
        if spec.page_param == spec.size_param:
            raise refused("size_param", "must differ from page_param")
        if has_reference(spec.url.partition("://")[0]):
            return
        try:
            check_url(probe(spec.url), policy)
        except ValueError as error:
            raise refused("url", error) from None

    def warnings(self) -> list[str]:
        return variable_warnings(self._entry)

    def batches(self, wanted: Collection[str]) -> Iterator[Batch]:
        spec, url = self._now()
        stream = _batches(spec, url, self._policy, frozenset(wanted))
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
            except TimeoutError:
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
            return spec, check_url(spec.url, self._policy)
        except InvalidInput as error:
            raise SourceFailed(f"The data chef cannot be used: {error}") from None
        except ValueError as error:
            raise SourceFailed(f"The source's url cannot be fetched: it {error}.") from None


async def _batches(
    spec: ApiEntry, url: URL, policy: SourcePolicy, wanted: frozenset[str]
) -> AsyncGenerator[Batch]:
    found: dict[str, None] = {}
    rows: list[Row] = []
    async with Client(policy) as client, aclosing(_parts(spec, url, client, wanted, found)) as parts:
        async for part in parts:
            rows += part
            if len(rows) >= BATCH_ROWS:
                yield _batch(rows, found, wanted)
                rows = []
    yield _batch(rows, found, wanted)


async def _parts(
    spec: ApiEntry, url: URL, client: Client, wanted: frozenset[str], found: dict[str, None]
) -> AsyncGenerator[list[Row]]:
    """Rows as they arrive, page by page; ``found`` grows with them."""
    source = source_name(url)
    said_more = False
    same, before = 0, b""
    for page in range(1, MOST_PAGES + 1):
        target = url
        if spec.paginated:
            target = url.update_query({spec.page_param: str(page), spec.size_param: str(spec.page_size)})
        reader = JsonRows(wanted, source)
        seen = blake2b()
        async with aclosing(client.body(target)) as chunks:
            async for data in chunks:
                seen.update(data)
                part = reader.feed(data)
                found.update(reader.found)
                yield part
        part = reader.close()
        found.update(reader.found)
        yield part
        if not reader.started and page == 1:
            raise SourceFailed(f"{source} gave an empty answer: it must give JSON.")
        if not spec.paginated or not _goes_on(reader, spec.page_size, said_more):
            return
        said_more = said_more or reader.more is not None
        same = same + 1 if seen.digest() == before else 0
        before = seen.digest()
        if same * reader.rows >= SAME_ROWS:
            raise SourceFailed(
                f"{source} gives the same page again and again: correct the name of its page parameter, or turn "
                "paginated off."
            )
    raise SourceFailed(f"{source} has more than {MOST_PAGES} pages: ask for larger ones.")


def _goes_on(page: JsonRows, size: int, said_more: bool) -> bool:
    if page.rows == 0:
        return False
    if page.more is not None:
        return page.more
    return not said_more and page.rows >= size


def _batch(rows: list[Row], found: Mapping[str, None], wanted: frozenset[str]) -> Batch:
    columns = {name: object_column([row.get(name) for row in rows]) for name in found if name in wanted}
    return Batch(tuple(found), columns)
