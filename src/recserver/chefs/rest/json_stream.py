"""Rows out of a JSON answer, while it arrives and in constant memory, whatever its layout.

Understood are an array, one object, an object that holds the rows in ``items``, ``data`` or ``results``, and
JSON lines; also several of these one after the other. An object is taken for a wrapper if one of those keys
holds an array of objects (the first that does has the rows), or an empty array while the object has no wanted
column itself. Of nested values of a row, lists are handed over with the single values in them, up to
:data:`MOST_LISTED`, and objects as an empty list, to be judged as nested. Fractions become floats. An element that
is no object is a stray: it is counted, and no row.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from recserver.core.errors import SourceFailed, shown

WRAPPERS = frozenset({"items", "data", "results"})

MOST_LISTED = 1000
"""Values of a list within a row that are kept."""

Row = dict[str, Any]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STARTS = frozenset({"start_map", "start_array"})
_ENDS = frozenset({"end_map", "end_array"})


class JsonRows:
    """Takes the bytes of one answer and gives its rows.

    Attributes:
        found: names of all columns seen, in order.
        rows: how many rows were given.
        strays: how many elements were no objects.
        started: whether there was anything but white space.
        more: what a wrapper says of further pages: its ``has_next``, else whether its ``next`` leads anywhere;
            None if it has neither.
    """

    def __init__(self, wanted: Collection[str] | None, source: str) -> None:
        import ijson

        self.found: dict[str, None] = {}
        self.rows = self.strays = 0
        self.started = False
        self.more: bool | None = None
        self._wanted = None if wanted is None else frozenset(wanted)
        self._source = source
        self._head = b""
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, multiple_values=True)
        self._failures = (ijson.JSONError, ValueError, SystemError)  # the last for endless digits
        self._out: list[Row] = []
        self._depth = 0
        self._key = ""
        self._outer: Row | None = None
        """The fields of the top-level object that we are in, of all keys: it may be a row or a wrapper."""
        self._row: Row | None = None
        self._elements_at = -1
        """Depth at which the elements of an array of rows stand; -1 outside of one."""
        self._undecided = False
        """Whether an array under one of :data:`WRAPPERS` has just begun."""
        self._wraps = self._wraps_nothing = False
        self._list: list[object] | None = None
        """The list that we are in, if it is a value of a row."""

    def feed(self, data: bytes) -> list[Row]:
        """The rows that ``data`` completes: each a dict of the wanted columns that it has.

        Raises:
            SourceFailed: if it is not JSON, or nothing that rows could be.
        """
        if not self.started:
            self._head += data
            if len(self._head) < len(_BYTE_ORDER_MARK):
                return []
            data, self._head = self._head.removeprefix(_BYTE_ORDER_MARK), b""
            self.started = bool(data.strip())
        return self._parsed(data)

    def close(self) -> list[Row]:
        """The rows that the end of the answer completes.

        Raises:
            SourceFailed: if the answer ends in the middle.
        """
        rows: list[Row] = []
        if self._head:
            data, self._head = self._head, b""
            self.started = bool(data.strip())
            rows = self._parsed(data)
        if not self.started:
            return rows
        try:
            self._parser.close()
        except self._failures:
            raise SourceFailed(f"{self._source} broke off in the middle of its JSON: try again.") from None
        return rows + self._digest()

    def _parsed(self, data: bytes) -> list[Row]:
        if not data:  # to the parser that would be the end
            return []
        try:
            self._parser.send(data)
        except self._failures:
            raise SourceFailed(not_json(data, self._source)) from None
        return self._digest()

    def _digest(self) -> list[Row]:
        for event, value in self._events:
            if event == "map_key":
                self._name(value)
            elif event in _STARTS:
                self._begin(event == "start_map")
            elif event in _ENDS:
                self._end()
            else:
                self._scalar(value)
        del self._events[:]
        out, self._out = self._out, []
        self.rows += len(out)
        return out

    def _name(self, key: str) -> None:
        self._key = key
        if self._row is not None and self._depth == self._elements_at + 1:
            self.found[key] = None

    def _begin(self, is_object: bool) -> None:
        self._list = None
        if self._undecided:
            self._decide(is_object)
        if self._depth == 0:
            if is_object:
                self._outer, self._wraps, self._wraps_nothing = {}, False, False
            else:
                self._elements_at = 1
        elif self._depth == self._elements_at:
            if is_object:
                self._row = {}
            else:
                self.strays += 1
        else:
            values: list[object] = []
            kept = self._keep(values)
            self._list = values if kept and not is_object else None
            self._undecided = (
                not (is_object or self._wraps)
                and self._depth == 1
                and self._outer is not None
                and self._key in WRAPPERS
            )
        self._depth += 1

    def _end(self) -> None:
        self._depth -= 1
        self._list = None
        if self._undecided:
            self._undecided = False
            self._wraps_nothing = True
        if self._row is not None and self._depth == self._elements_at:
            self._out.append(self._row)
            self._row = None
        elif self._depth == self._elements_at - 1:
            self._elements_at = -1
        if self._depth == 0 and self._outer is not None:
            self._end_outer(self._outer)
            self._outer = None

    def _end_outer(self, fields: Row) -> None:
        wanted = {key: value for key, value in fields.items() if self._wanted is None or key in self._wanted}
        if self._wraps or (self._wraps_nothing and (self._wanted is None or not wanted)):
            if "has_next" in fields:
                self.more = bool(fields["has_next"])
            elif "next" in fields:
                self.more = fields["next"] not in (None, "", False)
            return
        self.found.update(dict.fromkeys(fields))
        self._out.append(wanted)

    def _scalar(self, value: object) -> None:
        if self._undecided:
            self._undecided = False
        if self._depth == 0:
            raise SourceFailed(f"{self._source} answered with a single value: rows must be JSON objects.")
        if self._depth == self._elements_at:
            self.strays += 1
            return
        value = float(value) if isinstance(value, Decimal) else value
        if self._list is None:
            self._keep(value)
        elif len(self._list) < MOST_LISTED:
            self._list.append(value)

    def _keep(self, value: object) -> bool:
        """Remember the value of a field, if it is one of a row or of the top-level object; tell whether it is."""
        if self._row is not None:
            kept = self._depth == self._elements_at + 1 and (self._wanted is None or self._key in self._wanted)
            if kept:
                self._row[self._key] = value
            return kept
        if self._outer is not None and self._depth == 1:
            self._outer[self._key] = value
            return True
        return False

    def _decide(self, is_object: bool) -> None:
        self._undecided = False
        if is_object:
            self._wraps = True
            self._elements_at = 2


class SelectedRows(JsonRows):
    """As :class:`JsonRows`, for rows that stand at a place of their own: ``data.items``."""

    def __init__(self, selector: str, source: str) -> None:
        super().__init__(None, source)
        self._selector = selector
        self._parts = selector.split(".")
        self._on = 0
        """How many objects we are in that lead to the place."""
        self._was_there = False

    def close(self) -> list[Row]:
        rows = super().close()
        if self.started and not self._was_there:
            raise SourceFailed(
                f"{self._source} has no rows at {shown(self._selector)}: correct the data_selector of the data "
                "chef."
            )
        return rows

    def _begin(self, is_object: bool) -> None:
        if self._elements_at >= 0:
            super()._begin(is_object)
            return
        if self._depth == self._on and (self._depth == 0 or self._key == self._parts[self._depth - 1]):
            if self._depth == len(self._parts):
                self._was_there = True
                self._elements_at = self._depth if is_object else self._depth + 1
                self._row = {} if is_object else None
            elif is_object:
                self._on += 1
        self._depth += 1

    def _end(self) -> None:
        super()._end()
        self._on = min(self._on, self._depth)
        if self._row is None and self._elements_at == len(self._parts):
            self._elements_at = -1  # it was one object, and the row


def rows_reader(wanted: Collection[str] | None, source: str, selector: str | None) -> JsonRows | SelectedRows:
    """What takes the rows out of an answer as it arrives."""
    return JsonRows(wanted, source) if selector is None else SelectedRows(selector, source)


def not_json(data: bytes, source: str) -> str:
    """What to say of bytes that are not JSON."""
    kind = "HTML or XML" if data.lstrip().startswith(b"<") else "text that is not valid JSON"
    return f"{source} answered with {kind}: it must be an address that gives JSON."
