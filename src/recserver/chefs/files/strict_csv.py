"""The exact CSV parser, by pandas: slower than :mod:`recserver.chefs.files.fast_csv`, but it copes with ragged
rows and names the line where the text is invalid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from recserver.chefs.files.decompression import TextDecoder
from recserver.chefs.files.fast_csv import EXTRA_FIELDS, MAX_EXAMPLE_CHARS, Block, Layout
from recserver.chefs.protocol import Rejection
from recserver.core.errors import SourceFailed

MAX_BATCH_CHARS = 64 * 2**20
"""Characters that one batch of rows may span. A quote that is never closed would swallow the whole file."""

TYPICAL_BATCH_BYTES = 8 * 2**20
"""Bytes of a batch, if its rows are as long as those of the block on average."""

CHUNK_SIZE = 2**18

ParsedBatch = tuple[dict[str, Any], tuple[Rejection, ...]]


class _CsvText:
    """A text file for pandas that decodes, checks and counts.

    Attributes:
        error: the message that :meth:`read` failed with, if it did: pandas does not always pass it on.
    """

    def __init__(self, header: str, block: Block, more: Iterable[bytes], name: str) -> None:
        starts = range(0, len(block.data), CHUNK_SIZE)
        pieces = filter(None, chain((block.data[start : start + CHUNK_SIZE] for start in starts), more))
        self.error = ""
        self._name, self._next_text, self._batch_chars = name, f"{header}\n", 0
        self._decoder = TextDecoder(lambda _: next(pieces, b""), "utf-8", block.line, self._decoding_error)

    def batch_done(self) -> None:
        """Start counting the characters of another batch."""
        self._batch_chars = 0

    def read(self, size: int = -1) -> str:
        """Some text; "" at the end.

        Raises:
            SourceFailed: for text that is not UTF-8, NUL characters, or a batch without an end.
        """
        text, self._next_text = self._next_text or self._decoder.read(CHUNK_SIZE), ""
        line = self._decoder.line
        if (nul := text.find("\0")) >= 0:
            line -= text.count("\n", nul)
            raise self._failure(f"contains a NUL character at line {line}: save it as plain UTF-8 text")
        self._batch_chars += len(text)
        if self._batch_chars > MAX_BATCH_CHARS:
            raise self._failure(f"has no end of row for very long before line {line}: look for an open quote")
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self.read, "")

    def _decoding_error(self, line: int) -> SourceFailed:
        return self._failure(
            f"is not UTF-8 at line {line}: save it as UTF-8, or give its encoding, such as cp1252"
        )

    def _failure(self, problem: str) -> SourceFailed:
        self.error = f"{self._name} {problem}."
        return SourceFailed(self.error)


def parse_strict(
    block: Block, more: Iterable[bytes], layout: Layout, *, rows_before: int, batch_rows: int, name: str
) -> Iterator[ParsedBatch]:
    """Columns and rejected rows of a block and what follows: :func:`recserver.chefs.files.fast_csv.parse_block`.

    A row with fewer fields than the header gets empty ones at its end.

    Args:
        more: the text behind the block that belongs to it.
        rows_before: data rows of the file before the block.
        batch_rows: rows a batch, at most.
        name: the file's name in messages.

    Raises:
        SourceFailed: naming the line or row where the text is invalid.
    """
    import pandas as pd

    # pandas gets a header one field wider than the file's own: the first extra field of ragged rows lands there.
    text = _CsvText(layout.delimiter.join(map(str, range(layout.n_columns + 1))), block, more, name)
    read_csv: Any = pd.read_csv  # its stubs do not know readers with only the methods that pandas calls
    rows_per_batch = min(batch_rows, TYPICAL_BATCH_BYTES * block.data.count(b"\n") // (len(block.data) + 1))
    try:
        with read_csv(
            text,
            sep=layout.delimiter,
            usecols=[*layout.column_indices.values(), layout.n_columns],
            dtype=object,
            na_filter=False,
            index_col=False,
            chunksize=max(1, rows_per_batch),
        ) as frames:
            for frame in frames:
                text.batch_done()
                rows_before += len(frame)
                yield _reject_extra_fields(frame, layout)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, MemoryError) as error:
        raise SourceFailed(text.error or _error_message(str(error), rows_before, name)) from None


def _reject_extra_fields(frame: Any, layout: Layout) -> ParsedBatch:
    extra = frame[str(layout.n_columns)] != ""
    columns = {name: frame[str(index)] for name, index in layout.column_indices.items()}
    rejected: tuple[Rejection, ...] = ()
    if extra.any():
        example = layout.delimiter.join(map(str, frame[extra].iloc[0]))
        rejected = (Rejection(EXTRA_FIELDS, int(extra.sum()), example[:MAX_EXAMPLE_CHARS]),)
        columns = {name: column[~extra] for name, column in columns.items()}
    return {name: column.to_numpy(dtype=object) for name, column in columns.items()}, rejected


def _error_message(parser_error: str, rows_before: int, name: str) -> str:
    _, never_closed, row = parser_error.partition("EOF inside string starting at row ")
    if never_closed and row.isdigit():
        number = rows_before + int(row)
        return f"{name} has a quote in data row {number} that is never closed: close it, or double it."
    return f"{name} cannot be read as delimited text: check its quotes and delimiters."
