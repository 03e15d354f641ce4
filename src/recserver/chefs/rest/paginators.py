"""From one page of a REST source to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import islice
from typing import TYPE_CHECKING, Any

from recserver.chefs.rest.rest_entry import (
    DEEPEST_SELECTOR,
    Cursor,
    HeaderCursor,
    HeaderLink,
    JsonLink,
    Offset,
    PageNumber,
)
from recserver.core.errors import SourceFailed, shown

if TYPE_CHECKING:
    from yarl import URL

    from recserver.chefs.rest.http_client import Answer

Numbered = PageNumber | Offset
Chained = Cursor | JsonLink | HeaderLink | HeaderCursor

MOST_PLACES = 200
"""Places of an answer that are looked at for what a paginator missed."""

_ONWARD = re.compile(r"next|cursor|contin|after|token|scroll|marker", re.IGNORECASE)


def numbered_url(base: URL, pages: Numbered, place: int) -> URL:
    """The address of the page at ``place``, counted from 0."""
    if isinstance(pages, PageNumber):
        return base.update_query(
            {pages.page_param: str(pages.first_page + place), pages.size_param: str(pages.page_size)}
        )
    return base.update_query(
        {pages.offset_param: str(place * pages.page_size), pages.limit_param: str(pages.page_size)}
    )


def first_url(base: URL, pages: Chained) -> URL:
    """The address of the first page of a chain."""
    if isinstance(pages, Cursor) and pages.size_param:
        return base.update_query({pages.size_param: str(pages.page_size)})
    return base


def next_url(current: URL, pages: Chained, answer: Answer, document: Any, source: str) -> URL | None:
    """Where an answer says that the next page is; None if it is the last.

    Args:
        current: where the answer came from.
        document: the decoded answer, as far as it is one document.
        source: how sentences call the source.

    Raises:
        SourceFailed: if it names something that is no address.
    """
    if isinstance(pages, Cursor | HeaderCursor):
        found = at(document, pages.cursor_path) if isinstance(pages, Cursor) else answer.headers.get(pages.header)
        if found in (None, "", False) or isinstance(found, list | dict):
            return None
        return current.update_query({pages.cursor_param: str(found)})
    found = answer.next_link if isinstance(pages, HeaderLink) else at(document, pages.next_path)
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


def short_page_hint(pages: Numbered, rows: int, *, by_paginator: bool) -> str:
    """What to say where the first of numbered pages is short, and says nothing of further ones."""
    size = "page_size" if by_paginator else "page_size (size_value)"
    return (
        f"Page 1 had {rows} row{'' if rows == 1 else 's'} where {pages.page_size} were asked for, so it was taken "
        f"for the last: if the source never gives more than {rows}, set {size} to {rows}."
    )


def empty_pages_hint(empty: int) -> str:
    """What to say where a chain of pages goes on and on without rows."""
    return (
        f"After {empty} pages without rows, one after the other, the source was taken to be at its end although "
        "it names a next page."
    )


def lost_chain_hints(pages: Chained, answer: Answer, document: Any) -> tuple[str, ...]:
    """What to say if the first answer does not even have the place where a chain looks for the next page."""
    if isinstance(pages, HeaderLink):
        if "Link" in answer.headers:
            return ()
        where, name, key, places = "no Link header", "", "the paginator", list(answer.headers)
    elif isinstance(pages, HeaderCursor):
        if pages.header in answer.headers:
            return ()
        where, name, key = f"no header {shown(pages.header)}", pages.header, "header"
        places = list(answer.headers)
    else:
        name, key = (
            (pages.cursor_path, "cursor_path") if isinstance(pages, Cursor) else (pages.next_path, "next_path")
        )
        value = _NOTHING if document is None else _last_seen(document, name)
        if value is not _NOTHING and not (value and isinstance(value, list | dict)):
            return ()
        where = f"{'nothing' if value is _NOTHING else 'no text or number'} at {shown(name)}"
        places = list(islice(_places(document), MOST_PLACES))
    found = _likely(name, places)
    cure = f"; found {', '.join(map(shown, found))}: correct" if found else ": if there are more, correct"
    return (f"There is {where} in the first answer, so it was taken for the only page{cure} {key}.",)


_NOTHING = object()


def _last_seen(document: Any, path: str) -> Any:
    """As :func:`at`, but _NOTHING where a key is absent. Below an object that is null or empty it is None: so a
    source says that there is no more.
    """
    for name in path.split("."):
        if document is None or document == {}:
            return None
        document = document.get(name, _NOTHING) if isinstance(document, Mapping) else _NOTHING
    return document


def _places(document: Any, before: str = "", depth: int = 1) -> Iterator[str]:
    """Paths to whatever in nested objects may name a next page."""
    for name, value in document.items() if isinstance(document, Mapping) else ():
        if not name or "." in name:
            continue
        if isinstance(value, Mapping) and depth < DEEPEST_SELECTOR:
            yield from _places(value, f"{before}{name}.", depth + 1)
        elif value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            yield f"{before}{name}"


def _likely(wanted: str, places: list[str]) -> list[str]:
    """Of some places those that are named like the wanted one, or as if they led onward; the likeliest first."""

    def likeness(place: str) -> float:
        return SequenceMatcher(None, wanted.lower(), place.lower()).ratio()

    def fits(place: str) -> bool:
        last, asked = place.rpartition(".")[2].lower(), wanted.rpartition(".")[2].lower()
        return bool(_ONWARD.search(last)) or SequenceMatcher(None, asked, last).ratio() > 0.7

    return sorted(filter(fits, places), key=likeness, reverse=True)[:3]


def at(document: Any, path: str) -> Any:
    """What stands in nested objects at a path of names with dots between; None if nothing does."""
    for name in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(name)
    return document
