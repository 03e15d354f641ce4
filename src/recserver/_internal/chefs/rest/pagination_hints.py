"""Hints for the author of a data chef whose pagination seems to end too early."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import islice
from typing import TYPE_CHECKING, Any

from recserver._internal.chefs.rest.entry_types import MAX_SELECTOR_DEPTH, value_at_path
from recserver._internal.chefs.rest.paginators import Cursor, HeaderCursor, JsonLink, LinkedPaginator
from recserver._internal.core.errors import quoted

if TYPE_CHECKING:
    from recserver._internal.chefs.rest.http_client import Response
    from recserver._internal.chefs.rest.json_pages import Page

MAX_PATHS = 200
"""Paths of a document that are compared with the expected one."""

_NEXT_PAGE_NAMES = re.compile(r"next|cursor|contin|after|token|scroll|marker", re.IGNORECASE)
_ABSENT = object()


def short_page_hints(page: Page, page_size: int, key: str) -> tuple[str, ...]:
    """The hint if the first numbered page has fewer rows than requested and does not say whether more follow.

    Args:
        key: name of the key with the page size.
    """
    rows = page.size
    if not 0 < rows < page_size or page.has_more is not None or page.is_message:
        return ()
    return (
        f"Page 1 had {rows} row{'' if rows == 1 else 's'} where {page_size} were requested, so it was treated as "
        f"the last: if the source never returns more than {rows}, set {key} to {rows}.",
    )


def missing_next_hints(paginator: LinkedPaginator, response: Response, document: Any) -> tuple[str, ...]:
    """The hint if the first response lacks the header or key that the paginator reads."""
    if isinstance(paginator, Cursor | JsonLink):
        path, key = (
            (paginator.cursor_path, "cursor_path")
            if isinstance(paginator, Cursor)
            else (paginator.next_path, "next_path")
        )
        value = _ABSENT if document is None else value_at_path(document, path, _ABSENT)
        if value is not _ABSENT and not (value and isinstance(value, list | dict)):
            return ()
        missing = f"no {'value' if value is _ABSENT else 'text or number'} at {quoted(path)}"
        candidates = list(islice(_scalar_paths(document), MAX_PATHS))
    else:
        path = paginator.header if isinstance(paginator, HeaderCursor) else ""
        if (path or "Link") in response.headers:
            return ()
        missing, key = (f"no header {quoted(path)}", "header") if path else ("no Link header", "the paginator")
        candidates = list(response.headers)
    similar = _similar_paths(path, candidates)
    correct = f"; found {', '.join(map(quoted, similar))}: correct" if similar else ": if there are more, correct"
    return (f"There is {missing} in the first response, so it was treated as the only one{correct} {key}.",)


def _scalar_paths(document: Any, prefix: str = "", depth: int = 1) -> Iterator[str]:
    """Dotted paths of the strings, integers and nulls in nested objects."""
    for name, value in document.items() if isinstance(document, Mapping) else ():
        if not name or "." in name:
            continue
        if isinstance(value, Mapping) and depth < MAX_SELECTOR_DEPTH:
            yield from _scalar_paths(value, f"{prefix}{name}.", depth + 1)
        elif value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            yield f"{prefix}{name}"


def _similar_paths(expected: str, paths: list[str]) -> list[str]:
    """Up to three paths that resemble ``expected`` or are typical of a next page, the most similar first."""

    def similarity(one: str, other: str) -> float:
        return SequenceMatcher(None, one.lower(), other.lower()).ratio()

    def fits(path: str) -> bool:
        last, expected_last = path.rpartition(".")[2], expected.rpartition(".")[2]
        return bool(_NEXT_PAGE_NAMES.search(last)) or similarity(expected_last, last) > 0.7

    return sorted(filter(fits, paths), key=lambda path: similarity(expected, path), reverse=True)[:3]
