"""Incremental parser for the rows of a JSON response, in constant memory.

Supported layouts are an array, one object, an object that wraps the rows in ``items``, ``data`` or ``results``,
JSON lines, and several of these in sequence. An object is a wrapper if one of those keys holds an array of
objects (the first such array has the rows), or an empty array while the object has no wanted column itself.
Nested lists in a row keep their scalar values, up to :data:`MAX_LIST_VALUES`; nested objects become an empty
list, rejected later. Fractions become floats. Elements that are not objects are counted, but are not rows.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from recserver.core.errors import SourceFailed, quoted

WRAPPER_KEYS = frozenset({"items", "data", "results"})

MAX_LIST_VALUES = 1000
"""Values that are read of a list within a row."""

Row = dict[str, Any]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_START_EVENTS = frozenset({"start_map", "start_array"})
_END_EVENTS = frozenset({"end_map", "end_array"})


class JsonRowParser:
    """Parses the rows of one response, fed in pieces.

    Attributes:
        column_names: all columns, in order of appearance.
        n_rows: rows returned so far.
        n_non_objects: elements that were not objects.
        has_content: whether there was anything but white space.
        has_more: whether more pages follow: the wrapper's ``has_next``, else whether its ``next`` is set; None if
            it has neither.
    """

    def __init__(self, wanted: Collection[str] | None, source: str) -> None:
        import ijson

        self.column_names: dict[str, None] = {}
        self.n_rows = self.n_non_objects = 0
        self.has_content = False
        self.has_more: bool | None = None
        self._wanted = None if wanted is None else frozenset(wanted)
        self._source = source
        self._bom_buffer = b""
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, multiple_values=True)
        self._parse_errors = (ijson.JSONError, ValueError, SystemError)  # the last for very long numbers
        self._completed: list[Row] = []
        self._depth = 0
        self._key = ""
        self._top_object: Row | None = None
        """All fields of the current top-level object, which may be a row or a wrapper."""
        self._row: Row | None = None
        self._element_depth = -1
        """Depth of the elements of the current array of rows; -1 outside of one."""
        self._maybe_wrapper = False
        """Whether an array under one of :data:`WRAPPER_KEYS` has just begun."""
        self._is_wrapper = self._has_empty_wrapper = False
        self._list_value: list[object] | None = None
        """The current list, if it is a value of a row."""

    def feed(self, data: bytes) -> list[Row]:
        """The rows that ``data`` completes: each a dict of the wanted columns that it has.

        Raises:
            SourceFailed: if it is not JSON, or has no rows.
        """
        if not self.has_content:
            self._bom_buffer += data
            if len(self._bom_buffer) < len(_BYTE_ORDER_MARK):
                return []
            data, self._bom_buffer = self._bom_buffer.removeprefix(_BYTE_ORDER_MARK), b""
            self.has_content = bool(data.strip())
        return self._parse(data)

    def close(self) -> list[Row]:
        """The rows that the end of the response completes.

        Raises:
            SourceFailed: if the response is truncated.
        """
        rows: list[Row] = []
        if self._bom_buffer:
            data, self._bom_buffer = self._bom_buffer, b""
            self.has_content = bool(data.strip())
            rows = self._parse(data)
        if not self.has_content:
            return rows
        try:
            self._parser.close()
        except self._parse_errors:
            raise SourceFailed(f"{self._source} broke off in the middle of its JSON: try again.") from None
        return rows + self._process_events()

    def _parse(self, data: bytes) -> list[Row]:
        if not data:  # the parser would take it for the end
            return []
        try:
            self._parser.send(data)
        except self._parse_errors:
            raise SourceFailed(not_json_message(data, self._source)) from None
        return self._process_events()

    def _process_events(self) -> list[Row]:
        for event, value in self._events:
            if event == "map_key":
                self._on_key(value)
            elif event in _START_EVENTS:
                self._on_start(event == "start_map")
            elif event in _END_EVENTS:
                self._on_end()
            else:
                self._on_scalar(value)
        del self._events[:]
        out, self._completed = self._completed, []
        self.n_rows += len(out)
        return out

    def _on_key(self, key: str) -> None:
        self._key = key
        if self._row is not None and self._depth == self._element_depth + 1:
            self.column_names[key] = None

    def _on_start(self, is_object: bool) -> None:
        self._list_value = None
        if self._maybe_wrapper:
            self._resolve_wrapper(is_object)
        if self._depth == 0:
            if is_object:
                self._top_object, self._is_wrapper, self._has_empty_wrapper = {}, False, False
            else:
                self._element_depth = 1
        elif self._depth == self._element_depth:
            if is_object:
                self._row = {}
            else:
                self.n_non_objects += 1
        else:
            values: list[object] = []
            kept = self._store_field(values)
            self._list_value = values if kept and not is_object else None
            self._maybe_wrapper = (
                not (is_object or self._is_wrapper)
                and self._depth == 1
                and self._top_object is not None
                and self._key in WRAPPER_KEYS
            )
        self._depth += 1

    def _on_end(self) -> None:
        self._depth -= 1
        self._list_value = None
        if self._maybe_wrapper:
            self._maybe_wrapper = False
            self._has_empty_wrapper = True
        if self._row is not None and self._depth == self._element_depth:
            self._completed.append(self._row)
            self._row = None
        elif self._depth == self._element_depth - 1:
            self._element_depth = -1
        if self._depth == 0 and self._top_object is not None:
            self._finish_top_object(self._top_object)
            self._top_object = None

    def _finish_top_object(self, fields: Row) -> None:
        wanted = {key: value for key, value in fields.items() if self._wanted is None or key in self._wanted}
        if self._is_wrapper or (self._has_empty_wrapper and (self._wanted is None or not wanted)):
            if "has_next" in fields:
                self.has_more = bool(fields["has_next"])
            elif "next" in fields:
                self.has_more = fields["next"] not in (None, "", False)
            return
        self.column_names.update(dict.fromkeys(fields))
        self._completed.append(wanted)

    def _on_scalar(self, value: object) -> None:
        if self._maybe_wrapper:
            self._maybe_wrapper = False
        if self._depth == 0:
            raise SourceFailed(f"{self._source} answered with a single value: rows must be JSON objects.")
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
            kept = self._depth == self._element_depth + 1 and (self._wanted is None or self._key in self._wanted)
            if kept:
                self._row[self._key] = value
            return kept
        if self._top_object is not None and self._depth == 1:
            self._top_object[self._key] = value
            return True
        return False

    def _resolve_wrapper(self, is_object: bool) -> None:
        self._maybe_wrapper = False
        if is_object:
            self._is_wrapper = True
            self._element_depth = 2


class SelectedRowParser(JsonRowParser):
    """A parser for rows at a given path, such as ``data.items``."""

    def __init__(self, selector: str, source: str) -> None:
        super().__init__(None, source)
        self._selector = selector
        self._selector_keys = selector.split(".")
        self._matched_depth = 0
        """Number of enclosing objects on the path."""
        self._selector_found = False

    def close(self) -> list[Row]:
        rows = super().close()
        if self.has_content and not self._selector_found:
            raise SourceFailed(
                f"{self._source} has no rows at {quoted(self._selector)}: correct the data_selector of the data "
                "chef."
            )
        return rows

    def _on_start(self, is_object: bool) -> None:
        if self._element_depth >= 0:
            super()._on_start(is_object)
            return
        if self._depth == self._matched_depth and (
            self._depth == 0 or self._key == self._selector_keys[self._depth - 1]
        ):
            if self._depth == len(self._selector_keys):
                self._selector_found = True
                self._element_depth = self._depth if is_object else self._depth + 1
                self._row = {} if is_object else None
            elif is_object:
                self._matched_depth += 1
        self._depth += 1

    def _on_end(self) -> None:
        super()._on_end()
        self._matched_depth = min(self._matched_depth, self._depth)
        if self._row is None and self._element_depth == len(self._selector_keys):
            self._element_depth = -1  # it was one object, and the row


def make_row_parser(
    wanted: Collection[str] | None, source: str, selector: str | None
) -> JsonRowParser | SelectedRowParser:
    """The incremental parser for a response."""
    return JsonRowParser(wanted, source) if selector is None else SelectedRowParser(selector, source)


def not_json_message(data: bytes, source: str) -> str:
    """The message for a response that is not JSON."""
    kind = "HTML or XML" if data.lstrip().startswith(b"<") else "text that is not valid JSON"
    return f"{source} answered with {kind}: it must be an address that gives JSON."
