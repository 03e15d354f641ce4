"""From one page of a REST source to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import islice
from typing import TYPE_CHECKING, Any

from recserver.chefs.rest.rest_entry import (
    MAX_SELECTOR_DEPTH,
    Cursor,
    HeaderCursor,
    HeaderLink,
    JsonLink,
    Offset,
    PageNumber,
)
from recserver.core.errors import SourceFailed, quoted

if TYPE_CHECKING:
    from yarl import URL

    from recserver.chefs.rest.http_client import Response

NumberedPaginator = PageNumber | Offset
LinkedPaginator = Cursor | JsonLink | HeaderLink | HeaderCursor

MAX_PATHS = 200
"""Places of an answer that are looked at for what a paginator missed."""

_NEXT_PAGE_NAMES = re.compile(r"next|cursor|contin|after|token|scroll|marker", re.IGNORECASE)


def numbered_url(base: URL, paginator: NumberedPaginator, index: int) -> URL:
    """The address of the page at ``place``, counted from 0."""
    if isinstance(paginator, PageNumber):
        return base.update_query(
            {
                paginator.page_param: str(paginator.first_page + index),
                paginator.size_param: str(paginator.page_size),
            }
        )
    return base.update_query(
        {paginator.offset_param: str(index * paginator.page_size), paginator.limit_param: str(paginator.page_size)}
    )


def first_url(base: URL, paginator: LinkedPaginator) -> URL:
    """The address of the first page of a chain."""
    if isinstance(paginator, Cursor) and paginator.size_param:
        return base.update_query({paginator.size_param: str(paginator.page_size)})
    return base


def next_url(
    current: URL, paginator: LinkedPaginator, response: Response, document: Any, source: str
) -> URL | None:
    """Where an answer says that the next page is; None if it is the last.

    Args:
        current: where the answer came from.
        document: the decoded answer, as far as it is one document.
        source: how sentences call the source.

    Raises:
        SourceFailed: if it names something that is no address.
    """
    if isinstance(paginator, Cursor | HeaderCursor):
        found = (
            value_at_path(document, paginator.cursor_path)
            if isinstance(paginator, Cursor)
            else response.headers.get(paginator.header)
        )
        if found in (None, "", False) or isinstance(found, list | dict):
            return None
        return current.update_query({paginator.cursor_param: str(found)})
    found = (
        response.next_link if isinstance(paginator, HeaderLink) else value_at_path(document, paginator.next_path)
    )
    if found in (None, "", False):
        return None
    from yarl import URL

    if not isinstance(found, str):
        raise SourceFailed(f"{source} names no address for its next page: correct the paginator.")
    try:
        return current.join(URL(found)).with_fragment(None)
    except ValueError:
        raise SourceFailed(
            f"{source} names an address for its next page that is none: correct it there."
        ) from None


def short_page_hint(paginator: NumberedPaginator, rows: int, *, by_paginator: bool) -> str:
    """What to say where the first of numbered pages is short, and says nothing of further ones."""
    size = "page_size" if by_paginator else "page_size (size_value)"
    return (
        f"Page 1 had {rows} row{'' if rows == 1 else 's'} where {paginator.page_size} were asked for, so it "
        f"was taken for the last: if the source never gives more than {rows}, set {size} to {rows}."
    )


def empty_pages_hint(empty: int) -> str:
    """What to say where a chain of pages goes on and on without rows."""
    return (
        f"After {empty} pages without rows, one after the other, the source was taken to be at its end although "
        "it names a next page."
    )


def missing_next_hints(paginator: LinkedPaginator, response: Response, document: Any) -> tuple[str, ...]:
    """What to say if the first answer does not even have the place where a chain looks for the next page."""
    if isinstance(paginator, HeaderLink):
        if "Link" in response.headers:
            return ()
        where, name, key, places = "no Link header", "", "the paginator", list(response.headers)
    elif isinstance(paginator, HeaderCursor):
        if paginator.header in response.headers:
            return ()
        where, name, key = f"no header {quoted(paginator.header)}", paginator.header, "header"
        places = list(response.headers)
    else:
        name, key = (
            (paginator.cursor_path, "cursor_path")
            if isinstance(paginator, Cursor)
            else (paginator.next_path, "next_path")
        )
        value = _ABSENT if document is None else _value_or_absent(document, name)
        if value is not _ABSENT and not (value and isinstance(value, list | dict)):
            return ()
        where = f"{'nothing' if value is _ABSENT else 'no text or number'} at {quoted(name)}"
        places = list(islice(_object_paths(document), MAX_PATHS))
    found = _similar_paths(name, places)
    cure = f"; found {', '.join(map(quoted, found))}: correct" if found else ": if there are more, correct"
    return (f"There is {where} in the first answer, so it was taken for the only page{cure} {key}.",)


_ABSENT = object()


def _value_or_absent(document: Any, path: str) -> Any:
    """As :func:`at`, but _NOTHING where a key is absent. Below an object that is null or empty it is None: so a
    source says that there is no more.
    """
    for name in path.split("."):
        if document is None or document == {}:
            return None
        document = document.get(name, _ABSENT) if isinstance(document, Mapping) else _ABSENT
    return document


def _object_paths(document: Any, before: str = "", depth: int = 1) -> Iterator[str]:
    """Paths to whatever in nested objects may name a next page."""
    for name, value in document.items() if isinstance(document, Mapping) else ():
        if not name or "." in name:
            continue
        if isinstance(value, Mapping) and depth < MAX_SELECTOR_DEPTH:
            yield from _object_paths(value, f"{before}{name}.", depth + 1)
        elif value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            yield f"{before}{name}"


def _similar_paths(expected: str, paths: list[str]) -> list[str]:
    """Of some places those that are named like the wanted one, or as if they led onward; the likeliest first."""

    def likeness(place: str) -> float:
        return SequenceMatcher(None, expected.lower(), place.lower()).ratio()

    def fits(place: str) -> bool:
        last, asked = place.rpartition(".")[2].lower(), expected.rpartition(".")[2].lower()
        return bool(_NEXT_PAGE_NAMES.search(last)) or SequenceMatcher(None, asked, last).ratio() > 0.7

    return sorted(filter(fits, paths), key=likeness, reverse=True)[:3]


def value_at_path(document: Any, path: str) -> Any:
    """What stands in nested objects at a path of names with dots between; None if nothing does."""
    for name in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(name)
    return document
