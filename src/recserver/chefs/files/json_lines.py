"""Rows of JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

from recserver.chefs.chef_entry import object_column
from recserver.chefs.protocol import Batch, Rejection
from recserver.core.errors import SourceFailed

CHUNK_SIZE = 2**20
MAX_LINE_BYTES = 8 * 2**20
MAX_EXAMPLE_CHARS = 200

MAX_BATCH_BYTES = 8 * 2**20
"""Bytes of lines after which a batch ends, however few rows it has."""

LONG_LINE_BYTES = 2**16
"""Bytes. Unwanted fields of longer lines are dropped at once."""

MAX_NUMBER_DIGITS = 4000
"""Digits. Python refuses to convert more than 4300."""

NOT_AN_OBJECT = "is no JSON object"


def read_json_lines(
    read: Callable[[int], bytes], wanted: Collection[str] | None, batch_rows: int, name: str
) -> Iterator[Batch]:
    """The rows of JSON lines. Nested values stay as they are; blank lines are not rows.

    Args:
        read: returns UTF-8 text, b"" at its end.
        wanted: names of columns; None means all.
        batch_rows: rows a batch, at most.
        name: the file's name in messages.

    Raises:
        SourceFailed: naming the first line that is not JSON.
    """
    import msgspec

    decode = msgspec.json.Decoder().decode
    found: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    strays: list[bytes] = []
    waiting = 0
    for number, line in _read_lines(read, name):
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            row = _parse_with_stdlib(number, line, name)
        waiting += len(line)
        if isinstance(row, dict):
            found.update(dict.fromkeys(row))
            if len(line) > LONG_LINE_BYTES and wanted is not None:
                row = {key: row[key] for key in wanted if key in row}
            rows.append(row)
        elif number == 1 and isinstance(row, list):
            raise SourceFailed(_error_message(number, line, name))
        else:
            strays.append(line)
        if len(rows) + len(strays) >= batch_rows or waiting >= MAX_BATCH_BYTES:
            yield to_batch(rows, strays, found, wanted)
            rows, strays, waiting = [], [], 0
    yield to_batch(rows, strays, found, wanted)


def _parse_with_stdlib(number: int, line: bytes, name: str) -> Any:
    """A line that the fast decoder refuses. 1e999, very long numbers and lone surrogates are valid JSON; the row
    validation rejects them.

    Raises:
        SourceFailed: if it is not JSON.
    """

    def refuse(_: str) -> None:
        raise ValueError

    def whole(digits: str) -> int | str:
        return int(digits) if len(digits) <= MAX_NUMBER_DIGITS else digits

    try:
        return json.loads(line.decode(), parse_int=whole, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise SourceFailed(_error_message(number, line, name)) from None


def to_batch(
    rows: list[dict[str, Any]],
    non_objects: list[bytes],
    column_names: dict[str, None],
    wanted: Collection[str] | None,
) -> Batch:
    """Objects as columns, and the values that are not objects as rejected."""
    names = [name for name in column_names if wanted is None or name in wanted]
    rejected_lines: tuple[Rejection, ...] = ()
    if non_objects:
        example = non_objects[0][:MAX_EXAMPLE_CHARS].decode("utf-8", "replace")
        rejected_lines = (Rejection(NOT_AN_OBJECT, len(non_objects), example),)
    columns = {name: object_column([row.get(name) for row in rows]) for name in names}
    return Batch(tuple(column_names), columns, rejected=rejected_lines)


def _read_lines(read: Callable[[int], bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with its number."""
    rest, number = b"", 0
    while True:
        data = read(CHUNK_SIZE)
        *lines, rest = (rest + data).split(b"\n") if data else (rest, b"")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line
        if not data:
            return
        if len(rest) > MAX_LINE_BYTES:
            raise SourceFailed(
                f"{name} has a line longer than {MAX_LINE_BYTES >> 20} MiB after line {number}: shorten it."
            )


def _error_message(number: int, line: bytes, name: str) -> str:
    if number == 1 and line.lstrip().startswith(b"["):
        return f"{name} holds a JSON array: save it as JSON lines, one object a line."
    return f"{name} is not valid JSON at line {number}: it must hold one JSON object a line, in UTF-8."
