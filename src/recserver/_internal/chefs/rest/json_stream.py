"""An incremental parser for the rows of a JSON response, with constant memory.

Without a selector, the response may be an array, one object, an object that wraps the rows in ``items``, ``data``
or ``results``, JSON lines, or several of these in sequence. An object is a wrapper if one of those keys holds an
array of objects (the first such array has the rows), or an empty array while the object has no requested column
itself. Lists in a row keep their scalar values, up to :data:`MAX_LIST_VALUES`; objects in a row become an empty
list, which is rejected later. Numbers with a fraction become floats. Elements that are not objects are counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from recserver._internal.core.errors import SourceFailed, quoted

WRAPPER_KEYS = frozenset({"items", "data", "results"})

MAX_LIST_VALUES = 1000
"""Values that are read of a list in a row."""

SINGLE_VALUE = "returned a single value: rows must be JSON objects."

Row = dict[str, Any]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonRowParser:
    """Parses the rows of one response, which is fed in chunks.

    Attributes:
        column_names: all columns, in order of appearance.
        n_rows: number of rows returned so far.
        n_non_objects: number of elements that are not objects.
        has_content: whether the response has any content but white space.
        has_more: whether more pages follow; see :func:`has_more_pages`.
    """

    def __init__(self, requested: Collection[str] | None, source: str, selector: str | None = None) -> None:
        """
        Args:
            requested: names of columns; None means all.
            source: the source's name in messages.
            selector: the dotted path of the rows, such as ``data.items``; None detects it.
        """
        import ijson

        self.column_names: dict[str, None] = {}
        self.n_rows = self.n_non_objects = 0
        self.has_content = False
        self.has_more: bool | None = None
        self._requested = None if requested is None else frozenset(requested)
        self._source = source
        self._bom_buffer = b""
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, multiple_values=True)
        self._parse_errors = (ijson.JSONError, ValueError, SystemError)  # SystemError for very long numbers
        self._completed: list[Row] = []
        self._depth = 0
        self._key = ""
        self._row: Row | None = None
        self._element_depth = -1
        """Depth of the elements of the current array of rows; -1 outside one."""
        self._list_value: list[object] | None = None
        """The current list, if it is a value of a row."""

        self._selector = selector
        self._selector_keys = selector.split(".") if selector else []
        self._selector_found = False
        self._matched_depth = 0
        """Number of enclosing objects that match the selector."""

        self._top_object: Row | None = None
        """All fields of the current top-level object, which may be a row or a wrapper; None with a selector."""
        self._maybe_wrapper = False
        """Whether an array under one of :data:`WRAPPER_KEYS` has just begun."""
        self._is_wrapper = self._has_empty_wrapper = False

    def feed(self, data: bytes) -> list[Row]:
        """The rows that ``data`` completes: dicts of their requested columns.

        Raises:
            SourceFailed: if the response is not JSON, or has no rows.
        """
        if not self.has_content:
            self._bom_buffer += data
            if len(self._bom_buffer) < len(_BYTE_ORDER_MARK):
                return []
            data, self._bom_buffer = self._bom_buffer.removeprefix(_BYTE_ORDER_MARK), b""
        return self._parse(data)

    def close(self) -> list[Row]:
        """The rows that the end of the response completes.

        Raises:
            SourceFailed: if the response is truncated, or has no rows.
        """
        rows = self._parse(self._bom_buffer)
        if not self.has_content:
            return rows
        try:
            self._parser.close()
        except self._parse_errors:
            raise SourceFailed(f"{self._source} returned incomplete JSON: try again.") from None
        rows += self._process_events()
        if self._selector is not None and not self._selector_found:
            raise SourceFailed(no_rows_message(self._source, self._selector))
        return rows

    def _parse(self, data: bytes) -> list[Row]:
        if not data:  # it would mean the end to the parser
            return []
        self.has_content = self.has_content or bool(data.strip())
        try:
            self._parser.send(data)
        except self._parse_errors:
            kind = "HTML or XML" if data.lstrip().startswith(b"<") else "text that is not valid JSON"
            raise SourceFailed(f"{self._source} returned {kind}: its url must return JSON.") from None
        return self._process_events()

    def _process_events(self) -> list[Row]:
        for event, value in self._events:
            if event == "map_key":
                self._key = value
                if self._row is not None and self._depth == self._element_depth + 1:
                    self.column_names[value] = None
            elif event in ("start_map", "start_array"):
                self._on_start(event == "start_map")
            elif event in ("end_map", "end_array"):
                self._on_end()
            else:
                self._on_scalar(value)
        del self._events[:]
        rows, self._completed = self._completed, []
        self.n_rows += len(rows)
        return rows

    def _on_start(self, is_object: bool) -> None:
        self._list_value = None
        if self._maybe_wrapper:
            self._maybe_wrapper = False
            if is_object:
                self._is_wrapper, self._element_depth = True, 2
        if self._selector is not None and self._element_depth < 0:
            self._match_selector(is_object)
        elif self._depth == self._element_depth:
            if is_object:
                self._row = {}
            else:
                self.n_non_objects += 1
        elif self._depth > 0:
            self._start_nested_value(is_object)
        elif is_object:
            self._top_object, self._is_wrapper, self._has_empty_wrapper = {}, False, False
        else:
            self._element_depth = 1
        self._depth += 1

    def _match_selector(self, is_object: bool) -> None:
        """Begin the rows, or one row, if an object or array begins at the path of the selector."""
        path, depth = self._selector_keys, self._depth
        if depth != self._matched_depth or (depth and self._key != path[depth - 1]):
            return
        if depth == len(path):
            self._selector_found = True
            self._element_depth = depth if is_object else depth + 1
            self._row = {} if is_object else None
        elif is_object:
            self._matched_depth += 1

    def _start_nested_value(self, is_object: bool) -> None:
        values: list[object] = []
        is_stored = self._store_field(values)
        self._list_value = values if is_stored and not is_object else None
        in_top_object = self._top_object is not None and self._depth == 1
        self._maybe_wrapper = (
            in_top_object and not is_object and not self._is_wrapper and self._key in WRAPPER_KEYS
        )

    def _on_end(self) -> None:
        self._depth -= 1
        self._matched_depth = min(self._matched_depth, self._depth)
        self._list_value = None
        if self._maybe_wrapper:
            self._maybe_wrapper, self._has_empty_wrapper = False, True
        if self._row is not None and self._depth == self._element_depth:
            self._completed.append(self._row)
            self._row = None
            if self._depth == len(self._selector_keys):  # the selector led to this row, not to an array
                self._element_depth = -1
        elif self._depth == self._element_depth - 1:
            self._element_depth = -1
        if self._depth == 0 and self._top_object is not None:
            self._finish_top_object(self._top_object)
            self._top_object = None

    def _finish_top_object(self, fields: Row) -> None:
        row = {key: value for key, value in fields.items() if self._requested is None or key in self._requested}
        if self._is_wrapper or (self._has_empty_wrapper and (self._requested is None or not row)):
            more = has_more_pages(fields)
            self.has_more = self.has_more if more is None else more
        else:
            self.column_names.update(dict.fromkeys(fields))
            self._completed.append(row)

    def _on_scalar(self, value: object) -> None:
        self._maybe_wrapper = False
        if self._depth == 0:
            raise SourceFailed(f"{self._source} {SINGLE_VALUE}")
        if self._depth == self._element_depth:
            self.n_non_objects += 1
            return
        value = float(value) if isinstance(value, Decimal) else value
        if self._list_value is None:
            self._store_field(value)
        elif len(self._list_value) < MAX_LIST_VALUES:
            self._list_value.append(value)

    def _store_field(self, value: object) -> bool:
        """Store the value of a field of a row or of the top-level object; return whether it was stored."""
        if self._row is not None:
            is_requested = self._requested is None or self._key in self._requested
            if is_requested and self._depth == self._element_depth + 1:
                self._row[self._key] = value
                return True
        elif self._top_object is not None and self._depth == 1:
            self._top_object[self._key] = value
            return True
        return False


def has_more_pages(wrapper: Mapping[str, Any]) -> bool | None:
    """Whether more pages follow: ``has_next``, else whether ``next`` is set; None if the wrapper has neither."""
    if "has_next" in wrapper:
        return bool(wrapper["has_next"])
    return wrapper["next"] not in (None, "", False) if "next" in wrapper else None


def no_rows_message(source: str, selector: str) -> str:
    """The message for a response without rows at the path of its selector."""
    return f"{source} has no rows at {quoted(selector)}: correct the data_selector of the data chef."
