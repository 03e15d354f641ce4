"""A JSON response decoded at once: its rows, and whether more pages follow."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

from recserver.chefs.rest.entry_types import value_at_path
from recserver.chefs.rest.json_stream import WRAPPER_KEYS, make_row_parser
from recserver.core.errors import SourceFailed, quoted

CHUNK_SIZE = 2**18

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(slots=True)
class Page:
    """One parsed response.

    Attributes:
        columns: name → the values of all rows, None where a row has none.
        n_rows: number of rows.
        non_objects: one text for each element that is not an object; the first shows it, the others are empty.
        column_names: all columns, in order of appearance.
        has_content: whether there was anything but white space.
        has_more: whether more pages follow: the wrapper's ``has_next``, else whether its ``next`` is set; None if
            it has neither.
        document: the decoded response, if it is one JSON document.
        rows: the decoded elements, if ``document`` is an object that holds more than them.
        is_message: whether it is one object without any wanted column, so probably a message, not a row.
        hints: advice for whoever wrote the data chef, a sentence each.
    """

    columns: dict[str, list[Any]] = field(default_factory=dict)
    n_rows: int = 0
    non_objects: list[str] = field(default_factory=list)
    column_names: tuple[str, ...] = ()
    has_content: bool = True
    has_more: bool | None = None
    document: Any = None
    rows: list[Any] | None = None
    is_message: bool = False
    hints: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements of the page."""
        return self.n_rows + len(self.non_objects)


def page_from_rows(rows_or_others: list[Any], wanted: Collection[str] | None) -> Page:
    """The elements of an array as a page."""
    page = Page()
    rows = rows_or_others
    if set(map(type, rows_or_others)) - {dict}:
        rows = [one for one in rows_or_others if isinstance(one, dict)]
        stray = next(one for one in rows_or_others if not isinstance(one, dict))
        text = reprlib.repr(stray) if isinstance(stray, list) else quoted(stray).strip("'\"")
        page.non_objects = [text] + [""] * (len(rows_or_others) - len(rows) - 1)
    page.n_rows = len(rows)
    first = tuple(rows[0]) if rows else ()
    uniform = set().union(*rows) == set(first)
    page.column_names = first if uniform else tuple(dict.fromkeys(chain.from_iterable(rows)))
    for name in page.column_names:
        if wanted is None or name in wanted:
            try:
                page.columns[name] = list(map(itemgetter(name), rows))
            except KeyError:
                page.columns[name] = [row.get(name) for row in rows]
    return page


def parse_page(body: bytes, wanted: Collection[str] | None, selector: str | None, source: str) -> Page:
    """The rows of a response: those that :mod:`recserver.chefs.rest.json_stream` finds.

    Args:
        body: the response.
        wanted: columns; None means all.
        selector: the dotted path of the rows; None finds them by the usual rules.
        source: the source's name in messages.

    Raises:
        SourceFailed: if it is not JSON, or has no rows.
    """
    import msgspec

    body = body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    if not body:
        return Page(has_content=False)
    try:
        if _SURROGATE_ESCAPE.search(body):  # decoders differ on lone surrogates
            raise ValueError
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return _parse_lines(body, wanted, selector) or _parse_incrementally(body, wanted, selector, source)
    if selector is not None:
        rows = _select_rows(document, selector, source)
        page = page_from_rows(rows, wanted)
        page.rows = rows
    elif isinstance(document, list):
        page = page_from_rows(document, wanted)
    elif isinstance(document, dict):
        page = _page_from_object(document, wanted)
    else:
        raise SourceFailed(f"{source} answered with a single value: rows must be JSON objects.")
    page.document = document
    return page


def _select_rows(document: Any, selector: str, source: str) -> list[Any]:
    rows = value_at_path(document, selector)
    if not isinstance(rows, list | dict):
        raise SourceFailed(
            f"{source} has no rows at {quoted(selector)}: correct the data_selector of the data chef."
        )
    return rows if isinstance(rows, list) else [rows]


def _page_from_object(document: dict[str, Any], wanted: Collection[str] | None) -> Page:
    """An object that wraps the rows, or is one row."""
    arrays = [document[key] for key in document if key in WRAPPER_KEYS and isinstance(document[key], list)]
    filled = next((one for one in arrays if one and isinstance(one[0], dict)), None)
    own = wanted is not None and any(key in wanted for key in document)
    if filled is None and (own or not any(one == [] for one in arrays)):
        page = page_from_rows([document], wanted)
        page.is_message = wanted is not None and not own
        return page
    page = page_from_rows(filled or [], wanted)
    page.rows = filled
    if "has_next" in document:
        page.has_more = bool(document["has_next"])
    elif "next" in document:
        page.has_more = document["next"] not in (None, "", False)
    return page


def _parse_lines(body: bytes, wanted: Collection[str] | None, selector: str | None) -> Page | None:
    """JSON lines of one row each; None if ``body`` is anything else."""
    import msgspec

    try:
        if selector is not None or _SURROGATE_ESCAPE.search(body):
            return None
        documents = msgspec.json.Decoder().decode_lines(body)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(one, dict) and WRAPPER_KEYS.isdisjoint(one) for one in documents):
        return None
    return page_from_rows(documents, wanted)


def _parse_incrementally(body: bytes, wanted: Collection[str] | None, selector: str | None, source: str) -> Page:
    """Several documents, wrappers in lines, or invalid text: by the incremental parser."""
    reader = make_row_parser(wanted, source, selector)
    rows = [row for part in split_body(body) for row in reader.feed(part)]
    page = page_from_rows([*rows, *reader.close()], wanted)
    page.non_objects = [""] * reader.n_non_objects
    page.column_names, page.has_more, page.has_content = (
        tuple(reader.column_names),
        reader.has_more,
        reader.has_content,
    )
    return page


def split_body(body: bytes) -> Iterator[bytes]:
    """``body`` in pieces: the incremental parser needs many times the memory of what it is fed at once."""
    return (body[start : start + CHUNK_SIZE] for start in range(0, len(body), CHUNK_SIZE))


class FastPageDecoder:
    """Decodes further pages like an earlier one: only the wanted fields. Several times faster."""

    def __init__(self, page: Page, wanted: Collection[str] | None) -> None:
        """
        Args:
            page: an earlier one of the same source, from :func:`parse_page`.
        """
        import msgspec

        self._column_names = page.column_names
        self._names = [name for name in page.column_names if wanted is None or name in wanted]
        later = [name for name in wanted or () if name not in page.column_names]  # later pages may have them
        fields = {f"field{place}": name for place, name in enumerate([*self._names, *later])}
        row = msgspec.defstruct("Row", [(one, Any, None) for one in fields], rename=fields)
        self._columns = {name: attrgetter(one) for one, name in fields.items()}
        self._extra_names = later
        self._decode = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]

    def decode(self, body: bytes) -> Page | None:
        """An array of objects as a page; None if ``body`` is anything else."""
        if not body.startswith(b"[") or _SURROGATE_ESCAPE.search(body):
            return None
        try:
            rows = self._decode(body)
        except (ValueError, RecursionError):
            return None
        columns = {name: list(map(column, rows)) for name, column in self._columns.items()}
        come = [name for name in self._extra_names if any(value is not None for value in columns[name])]
        come.sort(key=lambda name: (body.find(f'"{name}"'.encode()), name))
        columns = {name: columns[name] for name in (*self._names, *come)}
        return Page(columns=columns, n_rows=len(rows), column_names=(*self._column_names, *come))
