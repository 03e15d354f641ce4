"""Decodes JSON responses at once: their rows, and whether more pages follow."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

from recserver._internal.chefs.rest.entry_types import value_at_path
from recserver._internal.chefs.rest.json_stream import (
    SINGLE_VALUE,
    WRAPPER_KEYS,
    JsonRowParser,
    has_more_pages,
    no_rows_message,
)
from recserver._internal.core.errors import SourceFailed, quoted

CHUNK_SIZE = 2**18

EMPTY_RESPONSE = "returned an empty response: it must return JSON."

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(slots=True)
class Page:
    """One parsed response.

    Attributes:
        columns: name → the values of all rows, None where a row has none.
        n_rows: number of rows.
        n_non_objects: number of elements that are not objects.
        example: one of these elements, shortened.
        column_names: all columns, in order of appearance.
        has_content: whether the response has any content but white space.
        has_more: whether more pages follow: ``has_next`` of the wrapper, else whether its ``next`` is set; None if
            it has neither.
        document: the decoded response, if it is one JSON document.
        rows: the decoded elements, if ``document`` is an object that also has other keys.
        is_message: whether it is one object without any requested column: probably a message, not a row.
        hints: advice for the author of the data chef, a sentence each.
    """

    columns: dict[str, list[Any]] = field(default_factory=dict)
    n_rows: int = 0
    n_non_objects: int = 0
    example: str = ""
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
        return self.n_rows + self.n_non_objects


def page_from_rows(elements: list[Any], requested: Collection[str] | None) -> Page:
    """The elements of an array as a page."""
    page = Page()
    rows = elements
    if set(map(type, elements)) - {dict}:
        rows = [element for element in elements if isinstance(element, dict)]
        first = next(element for element in elements if not isinstance(element, dict))
        page.example = reprlib.repr(first) if isinstance(first, list) else quoted(first).strip("'\"")
        page.n_non_objects = len(elements) - len(rows)
    page.n_rows = len(rows)
    names = tuple(rows[0]) if rows else ()
    uniform = set().union(*rows) == set(names)
    page.column_names = names if uniform else tuple(dict.fromkeys(chain.from_iterable(rows)))
    for name in page.column_names:
        if requested is None or name in requested:
            try:
                page.columns[name] = list(map(itemgetter(name), rows))
            except KeyError:
                page.columns[name] = [row.get(name) for row in rows]
    return page


def parse_page(body: bytes, requested: Collection[str] | None, selector: str | None, source: str) -> Page:
    """The rows of a response, found by the rules of :mod:`recserver._internal.chefs.rest.json_stream`.

    Args:
        body: the content of the response.
        requested: names of columns; None means all.
        selector: the dotted path of the rows; None detects it.
        source: the source's name in messages.

    Raises:
        SourceFailed: if it is not JSON, or has no rows.
    """
    import msgspec

    body = body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    if not body:
        return Page(has_content=False)
    try:
        if _SURROGATE_ESCAPE.search(body):  # decoders treat lone surrogates differently
            raise ValueError
        document = msgspec.json.decode(body)
    except (ValueError, msgspec.DecodeError, RecursionError):  # before msgspec 0.20, its error is no ValueError
        return _parse_lines(body, requested, selector) or _parse_incrementally(body, requested, selector, source)
    if selector is not None:
        selected = value_at_path(document, selector)
        if not isinstance(selected, list | dict):
            raise SourceFailed(no_rows_message(source, selector))
        rows = selected if isinstance(selected, list) else [selected]
        page = page_from_rows(rows, requested)
        page.rows = rows
    elif isinstance(document, list):
        page = page_from_rows(document, requested)
    elif isinstance(document, dict):
        page = _page_from_object(document, requested)
    else:
        raise SourceFailed(f"{source} {SINGLE_VALUE}")
    page.document = document
    return page


def _page_from_object(document: dict[str, Any], requested: Collection[str] | None) -> Page:
    """The page of an object that wraps the rows, or is one row."""
    arrays = [document[key] for key in document if key in WRAPPER_KEYS and isinstance(document[key], list)]
    rows = next((array for array in arrays if array and isinstance(array[0], dict)), None)
    has_columns = requested is not None and any(key in requested for key in document)
    if rows is None and (has_columns or [] not in arrays):
        page = page_from_rows([document], requested)
        page.is_message = requested is not None and not has_columns
        return page
    page = page_from_rows(rows or [], requested)
    page.rows, page.has_more = rows, has_more_pages(document)
    return page


def _parse_lines(body: bytes, requested: Collection[str] | None, selector: str | None) -> Page | None:
    """JSON lines with one row each; None if ``body`` is anything else."""
    import msgspec

    if selector is not None or _SURROGATE_ESCAPE.search(body):
        return None
    try:
        documents = msgspec.json.Decoder().decode_lines(body)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    is_lines = all(isinstance(one, dict) and WRAPPER_KEYS.isdisjoint(one) for one in documents)
    return page_from_rows(documents, requested) if is_lines else None


def _parse_incrementally(
    body: bytes, requested: Collection[str] | None, selector: str | None, source: str
) -> Page:
    """Several documents, wrappers in lines, or invalid JSON."""
    parser = JsonRowParser(requested, source, selector)
    rows = [row for part in split_body(body) for row in parser.feed(part)]
    page = page_from_rows([*rows, *parser.close()], requested)
    page.n_non_objects, page.column_names = parser.n_non_objects, tuple(parser.column_names)
    page.has_more, page.has_content = parser.has_more, parser.has_content
    return page


def split_body(body: bytes) -> Iterator[bytes]:
    """``body`` in chunks: the incremental parser needs many times the memory of what it is fed at once."""
    return (body[start : start + CHUNK_SIZE] for start in range(0, len(body), CHUNK_SIZE))


class FastPageDecoder:
    """Decodes only the requested fields of pages that resemble an earlier one. It is several times faster."""

    def __init__(self, page: Page, requested: Collection[str] | None) -> None:
        """
        Args:
            page: an earlier page of the same source, from :func:`parse_page`.
        """
        import msgspec

        self._column_names = page.column_names
        self._names = [name for name in page.column_names if requested is None or name in requested]
        self._extra_names = [name for name in requested or () if name not in page.column_names]
        fields = {f"field{index}": name for index, name in enumerate([*self._names, *self._extra_names])}
        row = msgspec.defstruct("Row", [(field, Any, None) for field in fields], rename=fields)
        self._columns = {name: attrgetter(field) for field, name in fields.items()}
        self._decode = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]

    def decode(self, body: bytes) -> Page | None:
        """An array of objects as a page; None if ``body`` is anything else."""
        import msgspec

        if not body.startswith(b"[") or _SURROGATE_ESCAPE.search(body):
            return None
        try:
            rows = self._decode(body)
        except (ValueError, msgspec.DecodeError, RecursionError):
            return None
        columns = {name: list(map(values, rows)) for name, values in self._columns.items()}
        new = [name for name in self._extra_names if any(value is not None for value in columns[name])]
        new.sort(key=lambda name: (body.find(f'"{name}"'.encode()), name))
        columns = {name: columns[name] for name in (*self._names, *new)}
        return Page(columns=columns, n_rows=len(rows), column_names=(*self._column_names, *new))
