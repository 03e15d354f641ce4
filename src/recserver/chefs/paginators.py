"""From one page of a REST source to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recserver.chefs.rest_entry import Cursor, HeaderCursor, HeaderLink, JsonLink, Offset, PageNumber
from recserver.errors import SourceFailed

if TYPE_CHECKING:
    from yarl import URL

    from recserver.chefs.fetch import Answer

Numbered = PageNumber | Offset
Chained = Cursor | JsonLink | HeaderLink | HeaderCursor


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


def at(document: Any, path: str) -> Any:
    """What stands in nested objects at a path of names with dots between; None if nothing does."""
    for name in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(name)
    return document
