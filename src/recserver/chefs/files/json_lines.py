"""JSON lines: one object a line, only the wanted fields of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

from recserver.chefs.chef_entry import object_column
from recserver.chefs.protocol import Batch, Rejection
from recserver.core.errors import SourceFailed

CHUNK = 2**20
LONGEST_LINE = 8 * 2**20
LONGEST_EXAMPLE = 200

LARGEST_BATCH = 8 * 2**20
"""Bytes of lines that are taken apart before they are handed over, however few rows they hold."""

LONG_LINE = 2**16
"""Bytes. Of longer lines the fields that nobody wants are let go at once."""

LONGEST_NUMBER = 4000
"""Digits. Python makes no number of more than 4300."""

NO_OBJECT = "is no JSON object"


def read_json_lines(
    read: Callable[[int], bytes], wanted: Collection[str] | None, batch_rows: int, name: str
) -> Iterator[Batch]:
    """The rows of JSON lines. Nested values are handed over as they are; blank lines are no rows.

    Args:
        read: gives UTF-8 text, b"" at its end.
        wanted: as :meth:`recserver.chefs.Chef.batches` has it.
        name: how sentences call the source.

    Raises:
        SourceFailed: naming the first line that is no JSON.
    """
    import msgspec

    decode = msgspec.json.Decoder().decode
    found: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    strays: list[bytes] = []
    waiting = 0
    for number, line in _lines(read, name):
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            row = _patiently(number, line, name)
        waiting += len(line)
        if isinstance(row, dict):
            found.update(dict.fromkeys(row))
            if len(line) > LONG_LINE and wanted is not None:
                row = {key: row[key] for key in wanted if key in row}
            rows.append(row)
        elif number == 1 and isinstance(row, list):
            raise SourceFailed(_in_words(number, line, name))
        else:
            strays.append(line)
        if len(rows) + len(strays) >= batch_rows or waiting >= LARGEST_BATCH:
            yield batch_of(rows, strays, found, wanted)
            rows, strays, waiting = [], [], 0
    yield batch_of(rows, strays, found, wanted)


def _patiently(number: int, line: bytes, name: str) -> Any:
    """A line that the quick decoder refuses: 1e999, endless digits and half characters are JSON all the same, and
    for the judgement of rows.

    Raises:
        SourceFailed: if it is none.
    """

    def refuse(_: str) -> None:
        raise ValueError

    def whole(digits: str) -> int | str:
        return int(digits) if len(digits) <= LONGEST_NUMBER else digits

    try:
        return json.loads(line.decode(), parse_int=whole, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise SourceFailed(_in_words(number, line, name)) from None


def batch_of(
    rows: list[dict[str, Any]], strays: list[bytes], found: dict[str, None], wanted: Collection[str] | None
) -> Batch:
    """Objects as columns; the elements that are none are left out."""
    names = [name for name in found if wanted is None or name in wanted]
    left_out: tuple[Rejection, ...] = ()
    if strays:
        example = strays[0][:LONGEST_EXAMPLE].decode("utf-8", "replace")
        left_out = (Rejection(NO_OBJECT, len(strays), example),)
    columns = {name: object_column([row.get(name) for row in rows]) for name in names}
    return Batch(tuple(found), columns, rejected=left_out)


def _lines(read: Callable[[int], bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with its number."""
    rest, number = b"", 0
    while True:
        data = read(CHUNK)
        *lines, rest = (rest + data).split(b"\n") if data else (rest, b"")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line
        if not data:
            return
        if len(rest) > LONGEST_LINE:
            raise SourceFailed(
                f"{name} has a line longer than {LONGEST_LINE >> 20} MiB after line {number}: shorten it."
            )


def _in_words(number: int, line: bytes, name: str) -> str:
    if number == 1 and line.lstrip().startswith(b"["):
        return f"{name} holds a JSON array: save it as JSON lines, one object a line."
    return f"{name} is not valid JSON at line {number}: it must hold one JSON object a line, in UTF-8."
