"""The strict CSV parser, by pandas. It is slower than ``fast_csv.py``, but supports ragged rows, and reports the
line where text is invalid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from recserver._internal.chefs.files.decompression import TextDecoder
from recserver._internal.chefs.files.fast_csv import EXTRA_FIELDS, MAX_EXAMPLE_CHARS, Block, Layout
from recserver._internal.chefs.protocol import Rejection
from recserver._internal.core.errors import SourceFailed

MAX_BATCH_CHARS = 64 * 2**20
"""Maximum number of characters in a batch. An open quote would make a row of the rest of the file."""

TYPICAL_BATCH_BYTES = 8 * 2**20
"""Size of a batch whose rows are as long as those of the block on average."""

CHUNK_SIZE = 2**18

ParsedBatch = tuple[dict[str, Any], tuple[Rejection, ...]]


class _CsvText:
    """A file object for pandas, which decodes and checks the text.

    Attributes:
        error: the message of the exception that :meth:`read` raised, if any: pandas may replace the exception.
    """

    def __init__(self, header: str, block: Block, more: Iterable[bytes], name: str) -> None:
        starts = range(0, len(block.data), CHUNK_SIZE)
        chunks = filter(None, chain((block.data[start : start + CHUNK_SIZE] for start in starts), more))
        self.error = ""
        self.batch_chars = 0
        self._name, self._next_text = name, f"{header}\n"
        self._decoder = TextDecoder(lambda _: next(chunks, b""), "utf-8", block.line, self._decoding_error)

    def read(self, size: int = -1) -> str:
        """The next text; "" at the end.

        Raises:
            SourceFailed: for text that is not UTF-8, NUL characters, or a batch that is too large.
        """
        text, self._next_text = self._next_text or self._decoder.read(CHUNK_SIZE), ""
        line = self._decoder.line
        if (nul := text.find("\0")) >= 0:
            line -= text.count("\n", nul)
            raise self._failure(f"contains a NUL character at line {line}: save it as plain UTF-8 text")
        self.batch_chars += len(text)
        if self.batch_chars > MAX_BATCH_CHARS:
            raise self._failure(f"has a very long row before line {line}: check for an open quote")
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
    block: Block, more: Iterable[bytes], layout: Layout, name: str, *, rows_before: int, batch_rows: int
) -> Iterator[ParsedBatch]:
    """Columns and rejected rows of a block: see :func:`recserver._internal.chefs.files.fast_csv.parse_block`.

    Rows with fewer fields than the header are padded with empty fields.

    Args:
        more: the text after the block that belongs to it.
        name: the file's name in messages.
        rows_before: number of data rows before the block.
        batch_rows: maximum number of rows in a batch.

    Raises:
        SourceFailed: naming the line or row where the text is invalid.
    """
    import pandas as pd

    # The header has one column more than that of the file, for the first extra field of ragged rows.
    text = _CsvText(layout.delimiter.join(map(str, range(layout.n_columns + 1))), block, more, name)
    read_csv: Any = pd.read_csv  # its type stubs require more methods of file objects than pandas calls
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
                text.batch_chars = 0
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
