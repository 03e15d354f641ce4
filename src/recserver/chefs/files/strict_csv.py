"""The exact CSV parser: slower than :mod:`recserver.chefs.files.fast_csv`, but it copes with ragged rows and names
the line or row where the text is invalid.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from recserver.chefs.chef_entry import object_column
from recserver.chefs.files.decompression import TextDecoder
from recserver.chefs.files.fast_csv import EXTRA_FIELDS, MAX_EXAMPLE_CHARS, SENTINEL, Block, Layout
from recserver.chefs.protocol import Rejection
from recserver.core.errors import SourceFailed

MAX_ROW_CHARS = 64 * 2**20
"""Characters that one row may span. A quote that is never closed would swallow the whole file."""

MAX_BATCH_CHARS = 8 * 2**20
"""Characters after which a batch ends, however few rows it has."""

ParsedBatch = tuple[dict[str, Any], tuple[Rejection, ...]]


class _Lines:
    """The decoded lines of a block and of what follows, and then a row of sentinels.

    Attributes:
        row_chars: characters read since the reader of this set it to 0.
        last: the line that was read last.
        at_end: whether that was the row of sentinels.
    """

    def __init__(self, block: Block, more: Iterable[bytes], sentinels: str, name: str) -> None:
        pieces = filter(None, chain([block.data], more))
        self._name, self._sentinels = name, sentinels
        self._decoder = TextDecoder(
            lambda _: next(pieces, b""),
            "utf-8",
            block.line,
            lambda line: f"{name} is not UTF-8 at line {line}: save it as UTF-8, or give its encoding, such as cp1252.",
        )
        self.row_chars, self.last, self.at_end = 0, "", False

    def __iter__(self) -> Iterator[str]:
        rest = ""
        while text := self._decoder.read(0):
            if (nul := text.find("\0")) >= 0:
                line = self._decoder.line - text.count("\n", nul)
                raise SourceFailed(
                    f"{self._name} contains a NUL character at line {line}: save it as plain UTF-8 text."
                )
            *lines, rest = io.StringIO(rest + text, newline="")  # the last one may go on in the text that follows
            for self.last in lines:
                self.row_chars += len(self.last)
                yield self.last
            if self.row_chars + len(rest) > MAX_ROW_CHARS:
                raise SourceFailed(
                    f"{self._name} has no end of row for very long before line {self._decoder.line}: look for an "
                    "open quote."
                )
        if rest:
            self.last = rest
            yield rest
        self.at_end = True
        yield self._sentinels


def parse_strict(
    block: Block, more: Iterable[bytes], layout: Layout, *, rows_before: int, batch_rows: int, name: str
) -> Iterator[ParsedBatch]:
    """Columns and rejected rows of a block and of what follows, as :func:`recserver.chefs.files.fast_csv.parse_block`.

    A row with fewer fields than the header gets empty ones at its end.

    Args:
        more: the text behind the block that belongs to it.
        rows_before: data rows of the file before the block.
        batch_rows: rows a batch.
        name: the file's name in messages.

    Raises:
        SourceFailed: naming the line or row where the text is invalid.
    """
    sentinels = [SENTINEL] * layout.n_columns
    lines = _Lines(block, more, layout.delimiter.join(sentinels), name)
    rows, n_chars = list[list[str]](), 0
    for row in csv.reader(lines, delimiter=layout.delimiter):
        if lines.at_end:
            if row != sentinels:
                raise SourceFailed(
                    f"{name} has a quote in data row {rows_before + len(rows) + 1} that is never closed: close it, "
                    "or double it."
                )
            break
        n_chars, lines.row_chars = n_chars + lines.row_chars, 0
        if len(row) > 1 or lines.last.strip(" \t\r\n"):  # blank lines are not rows
            rows.append(row)
        if len(rows) >= batch_rows or n_chars > MAX_BATCH_CHARS:
            rows_before += len(rows)
            yield _to_columns(rows, layout)
            rows, n_chars = [], 0
    if rows:
        yield _to_columns(rows, layout)


def _to_columns(rows: list[list[str]], layout: Layout) -> ParsedBatch:
    width = layout.n_columns
    extra = [row for row in rows if len(row) > width and row[width]]
    rejected: tuple[Rejection, ...] = ()
    if extra:
        example = layout.delimiter.join(extra[0])[:MAX_EXAMPLE_CHARS]
        rejected = (Rejection(EXTRA_FIELDS, len(extra), example),)
        rows = [row for row in rows if len(row) <= width or not row[width]]
    columns = {
        name: object_column([row[index] if index < len(row) else "" for row in rows])
        for name, index in layout.column_indices.items()
    }
    return columns, rejected
