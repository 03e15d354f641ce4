"""Reads JSON lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

from recserver._internal.chefs.chef_entry import NOT_AN_OBJECT, object_column
from recserver._internal.chefs.protocol import Batch, Rejection
from recserver._internal.core.errors import SourceFailed

CHUNK_SIZE = 2**20
MAX_LINE_BYTES = 8 * 2**20
MAX_EXAMPLE_CHARS = 200

MAX_BATCH_BYTES = 8 * 2**20
"""Size after which a batch ends, even if it has few rows."""

LONG_LINE_BYTES = 2**16
"""Bytes. Fields of longer lines that are not requested are discarded immediately."""

MAX_NUMBER_DIGITS = 4000
"""Longer integers become text. Python's own limit is 4300 digits."""


def read_json_lines(
    read: Callable[[int], bytes], requested: Collection[str] | None, batch_rows: int, name: str
) -> Iterator[Batch]:
    """The rows in batches. Nested values are not changed; blank lines are ignored.

    Args:
        read: returns UTF-8 text, b"" at its end.
        requested: names of columns; None means all.
        batch_rows: maximum number of rows in a batch.
        name: the file's name in messages.

    Raises:
        SourceFailed: naming the first line that is not valid JSON.
    """
    import msgspec

    decode = msgspec.json.Decoder().decode
    column_names: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    non_objects: list[bytes] = []
    n_bytes = 0
    for number, line in _read_lines(read, name):
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            row = _parse_with_stdlib(number, line, name)
        n_bytes += len(line)
        if isinstance(row, dict):
            column_names.update(dict.fromkeys(row))
            if len(line) > LONG_LINE_BYTES and requested is not None:
                row = {key: row[key] for key in requested if key in row}
            rows.append(row)
        elif number == 1 and isinstance(row, list):
            raise SourceFailed(_error_message(number, line, name))
        else:
            non_objects.append(line)
        if len(rows) + len(non_objects) >= batch_rows or n_bytes >= MAX_BATCH_BYTES:
            yield _to_batch(rows, non_objects, column_names, requested)
            rows, non_objects, n_bytes = [], [], 0
    yield _to_batch(rows, non_objects, column_names, requested)


def _parse_with_stdlib(number: int, line: bytes, name: str) -> Any:
    """A line that msgspec rejects. 1e999, very long numbers and lone surrogates are valid JSON; row validation
    rejects them later.

    Raises:
        SourceFailed: if it is not valid JSON.
    """

    def reject_constant(_: str) -> None:
        raise ValueError

    def parse_int(digits: str) -> int | str:
        return int(digits) if len(digits) <= MAX_NUMBER_DIGITS else digits

    try:
        return json.loads(line.decode(), parse_int=parse_int, parse_constant=reject_constant)
    except (ValueError, RecursionError):
        raise SourceFailed(_error_message(number, line, name)) from None


def _to_batch(
    rows: list[dict[str, Any]],
    non_objects: list[bytes],
    column_names: dict[str, None],
    requested: Collection[str] | None,
) -> Batch:
    names = [name for name in column_names if requested is None or name in requested]
    columns = {name: object_column([row.get(name) for row in rows]) for name in names}
    rejected: tuple[Rejection, ...] = ()
    if non_objects:
        example = non_objects[0][:MAX_EXAMPLE_CHARS].decode("utf-8", "replace")
        rejected = (Rejection(NOT_AN_OBJECT, len(non_objects), example),)
    return Batch(tuple(column_names), columns, rejected=rejected)


def _read_lines(read: Callable[[int], bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
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
        return f"{name} contains a JSON array: save it as JSON lines, one object per line."
    return f"{name} is not valid JSON at line {number}: it must contain one JSON object per line, in UTF-8."
