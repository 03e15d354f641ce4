"""The careful way through CSV text: pandas, fed by a reader that knows the line and what is wrong with it."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Any

from recserver.chefs.files.fast_csv import EXTRA_FIELDS, MAX_EXAMPLE_CHARS, Block, Layout
from recserver.chefs.protocol import Rejection
from recserver.core.errors import SourceFailed

MAX_BATCH_CHARS = 64 * 2**20
"""Characters that one batch of rows may span. A quote that is never closed would swallow the whole file."""

TYPICAL_BATCH_BYTES = 8 * 2**20
"""Bytes that a batch spans if its rows are as long as the first ones."""

CHUNK_SIZE = 2**18


class CsvText:
    """Text for pandas, decoded, checked and counted.

    Attributes:
        failure: the sentence that :meth:`read` failed with, if it did: pandas does not always pass it on.
    """

    def __init__(self, block: Block, read_more: Callable[[int], bytes], header: str, name: str) -> None:
        """
        Args:
            block: where to begin; ``more`` gives what follows, b"" at the end.
            header: a line to put before it.
            name: how sentences call the file.
        """
        self.error = ""
        self._block, self._read_more, self._name = block.data, read_more, name
        self._next_text = f"{header}\n"
        self._line = block.line
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._batch_chars = 0

    def batch_done(self) -> None:
        """A batch was handed over: the next one has its full allowance."""
        self._batch_chars = 0

    def read(self, size: int = -1) -> str:
        """Some text; "" at the end.

        Raises:
            SourceFailed: for text that is not UTF-8, NUL characters, or a batch without an end.
        """
        text, self._next_text = self._next_text or self._text(), ""
        self._batch_chars += len(text)
        if self._batch_chars > MAX_BATCH_CHARS:
            self._fail(f"has no end of row for very long before line {self._line}: look for an open quote")
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self.read, "")

    def _bytes(self) -> bytes:
        if self._block:
            data, self._block = self._block[:CHUNK_SIZE], self._block[CHUNK_SIZE:]
            return data
        return self._read_more(CHUNK_SIZE)

    def _text(self) -> str:
        text = ""
        while not text:  # a few bytes may be only the beginning of a character
            data = self._bytes()
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                self._line += bytes(error.object)[: error.start].count(b"\n")
                self._fail(
                    f"is not UTF-8 at line {self._line}: save it as UTF-8, or give its encoding, such as cp1252"
                )
            if not data:
                break
        if (nul := text.find("\0")) >= 0:
            self._line += text.count("\n", 0, nul)
            self._fail(f"holds a NUL character at line {self._line}: save it as plain UTF-8 text")
        self._line += text.count("\n")
        return text

    def _fail(self, problem: str) -> None:
        self.error = f"{self._name} {problem}."
        raise SourceFailed(self.error)


ParsedBatch = tuple[dict[str, Any], tuple[Rejection, ...]]


def parse_strict(
    block: Block,
    read_more: Callable[[int], bytes],
    layout: Layout,
    *,
    rows_before: int,
    batch_rows: int,
    name: str,
) -> Iterator[ParsedBatch]:
    """Columns and rows left out of a block and of what follows, as :func:`recserver.chefs.files.fast_csv.parsed`.

    A row with fewer fields than the header has empty ones at its end.

    Raises:
        SourceFailed: naming the line or row where the text makes no sense.
    """
    import pandas as pd

    # pandas gets a header one field wider than the file's own: the surplus of ragged rows lands there.
    text = CsvText(block, read_more, layout.delimiter.join(map(str, range(layout.n_columns + 1))), name)
    read_csv: Any = pd.read_csv  # its stubs do not know readers that bring only what pandas asks for
    try:
        with read_csv(
            text,
            sep=layout.delimiter,
            usecols=[*layout.column_indices.values(), layout.n_columns],
            dtype=object,
            na_filter=False,
            index_col=False,
            chunksize=_rows_per_batch(block, batch_rows),
        ) as frames:
            for frame in frames:
                text.batch_done()
                rows_before += len(frame)
                yield _drop_extra_fields(frame, layout)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, MemoryError) as error:
        raise SourceFailed(text.error or _error_message(str(error), rows_before, name)) from None


def _rows_per_batch(block: Block, max_rows: int) -> int:
    """So few that wide rows are not taken for one without an end."""
    return max(1, min(max_rows, TYPICAL_BATCH_BYTES * block.data.count(b"\n") // (len(block.data) + 1)))


def _drop_extra_fields(frame: Any, layout: Layout) -> ParsedBatch:
    surplus = frame[str(layout.n_columns)] != ""
    columns = {name: frame[str(place)] for name, place in layout.column_indices.items()}
    left_out: tuple[Rejection, ...] = ()
    if surplus.any():
        first = layout.delimiter.join(map(str, frame[surplus].iloc[0]))
        left_out = (Rejection(EXTRA_FIELDS, int(surplus.sum()), first[:MAX_EXAMPLE_CHARS]),)
        columns = {name: column[~surplus] for name, column in columns.items()}
    return {name: column.to_numpy(dtype=object) for name, column in columns.items()}, left_out


def _error_message(parser_error: str, rows_before: int, name: str) -> str:
    _, never_closed, row = parser_error.partition("EOF inside string starting at row ")
    if never_closed and row.isdigit():
        place = rows_before + int(row)
        return f"{name} has a quote in data row {place} that is never closed: close it, or double it."
    return f"{name} cannot be read as delimited text: check its quotes and delimiters."
