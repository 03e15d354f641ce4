"""A whole JSON answer at once: its rows, and what it says of further pages. Much quicker than bit by bit."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from recserver.chefs.json_rows import WRAPPERS, rows_reader
from recserver.chefs.paginators import at
from recserver.errors import SourceFailed, shown

_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(slots=True)
class Page:
    """One answer, taken apart.

    Attributes:
        rows: objects with all their fields, or with the wanted ones only.
        strays: elements that are no objects, as text.
        found: names of all columns seen, in order.
        started: whether there was anything but white space.
        more: what a wrapper says of further pages: its ``has_next``, else whether its ``next`` leads anywhere;
            None if it has neither.
        document: the decoded answer, if it is one document.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    found: dict[str, None] = field(default_factory=dict)
    started: bool = True
    more: bool | None = None
    document: Any = None

    @property
    def size(self) -> int:
        """How many elements the page had."""
        return len(self.rows) + len(self.strays)

    def take(self, elements: list[Any]) -> None:
        """Add elements of an array of rows."""
        for one in elements:
            if isinstance(one, dict):
                self.rows.append(one)
                if one.keys() != self.found.keys():
                    self.found.update(dict.fromkeys(one))
            else:
                self.strays.append(shown(one).strip("'\""))


def whole_page(body: bytes, wanted: Collection[str] | None, selector: str | None, source: str) -> Page:
    """The rows of an answer. They are those that :mod:`recserver.chefs.json_rows` finds.

    Args:
        body: the answer.
        wanted: columns; None means all.
        selector: where the rows are, with dots between names; None finds them by the usual rules.
        source: how sentences call the source.

    Raises:
        SourceFailed: if it is not JSON, or nothing that rows could be.
    """
    import msgspec

    body = body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    if not body:
        return Page(started=False)
    try:
        if _HALF_CHARACTER.search(body):  # decoders differ on what half a character is
            raise ValueError
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return _lines(body, selector) or _slowly(body, wanted, selector, source)
    page = Page(document=document)
    if selector is not None:
        _take_selected(page, document, selector, source)
    elif isinstance(document, list):
        page.take(document)
    elif isinstance(document, dict):
        _take_object(page, document, wanted)
    else:
        raise SourceFailed(f"{source} answered with a single value: rows must be JSON objects.")
    return page


def _take_selected(page: Page, document: Any, selector: str, source: str) -> None:
    rows = at(document, selector)
    if not isinstance(rows, list | dict):
        raise SourceFailed(
            f"{source} has no rows at {shown(selector)}: correct the data_selector of the data chef."
        )
    page.take(rows if isinstance(rows, list) else [rows])


def _take_object(page: Page, document: dict[str, Any], wanted: Collection[str] | None) -> None:
    """An object that holds the rows, or is one."""
    arrays = [document[key] for key in document if key in WRAPPERS and isinstance(document[key], list)]
    filled = next((one for one in arrays if one and isinstance(one[0], dict)), None)
    own = wanted is not None and any(key in wanted for key in document)
    if filled is None and (own or not any(one == [] for one in arrays)):
        page.take([document])
        return
    page.take(filled or [])
    if "has_next" in document:
        page.more = bool(document["has_next"])
    elif "next" in document:
        page.more = document["next"] not in (None, "", False)


def _lines(body: bytes, selector: str | None) -> Page | None:
    """JSON lines that each hold one row; None if that is not what ``body`` is."""
    import msgspec

    try:
        if selector is not None or _HALF_CHARACTER.search(body):
            return None
        documents = msgspec.json.Decoder().decode_lines(body)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(one, dict) and WRAPPERS.isdisjoint(one) for one in documents):
        return None
    page = Page()
    page.take(documents)
    return page


def _slowly(body: bytes, wanted: Collection[str] | None, selector: str | None, source: str) -> Page:
    """Several documents, wrappers in lines, broken text: bit by bit."""
    reader = rows_reader(wanted, source, selector)
    page = Page()
    page.rows = [*reader.feed(body), *reader.close()]
    page.strays = [""] * reader.strays
    page.found, page.more, page.started = reader.found, reader.more, reader.started
    return page
