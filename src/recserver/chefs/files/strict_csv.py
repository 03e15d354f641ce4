"""The careful way through CSV text: pandas, fed by a reader that knows the line and what is wrong with it."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Any

from recserver.chefs.files.fast_csv import LONGEST_EXAMPLE, TOO_MANY, Block, Layout
from recserver.chefs.protocol import Rejection
from recserver.core.errors import SourceFailed

MOST_BETWEEN_BATCHES = 64 * 2**20
"""Characters that one batch of rows may span. A quote that is never closed would swallow the whole file."""

USUAL_BATCH = 8 * 2**20
"""Bytes that a batch spans if its rows are as long as the first ones."""

CHUNK = 2**18


class CsvText:
    """Text for pandas, decoded, checked and counted.

    Attributes:
        failure: the sentence that :meth:`read` failed with, if it did: pandas does not always pass it on.
    """

    def __init__(self, block: Block, more: Callable[[int], bytes], header: str, name: str) -> None:
        """
        Args:
            block: where to begin; ``more`` gives what follows, b"" at the end.
            header: a line to put before it.
            name: how sentences call the file.
        """
        self.failure = ""
        self._block, self._more, self._name = block.data, more, name
        self._ahead = f"{header}\n"
        self._line = block.line
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._since_batch = 0

    def rows_are_out(self) -> None:
        """A batch was handed over: the next one has its full allowance."""
        self._since_batch = 0

    def read(self, size: int = -1) -> str:
        """Some text; "" at the end.

        Raises:
            SourceFailed: for text that is not UTF-8, NUL characters, or a batch without an end.
        """
        text, self._ahead = self._ahead or self._text(), ""
        self._since_batch += len(text)
        if self._since_batch > MOST_BETWEEN_BATCHES:
            self._fail(f"has no end of row for very long before line {self._line}: look for an open quote")
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self.read, "")

    def _bytes(self) -> bytes:
        if self._block:
            data, self._block = self._block[:CHUNK], self._block[CHUNK:]
            return data
        return self._more(CHUNK)

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
        self.failure = f"{self._name} {problem}."
        raise SourceFailed(self.failure)


Frame = tuple[dict[str, Any], tuple[Rejection, ...]]


def careful(
    block: Block, more: Callable[[int], bytes], layout: Layout, *, rows_before: int, batch_rows: int, name: str
) -> Iterator[Frame]:
    """Columns and rows left out of a block and of what follows, as :func:`recserver.chefs.files.fast_csv.parsed`.

    A row with fewer fields than the header has empty ones at its end.

    Raises:
        SourceFailed: naming the line or row where the text makes no sense.
    """
    import pandas as pd

    # pandas gets a header one field wider than the file's own: the surplus of ragged rows lands there.
    text = CsvText(block, more, layout.delimiter.join(map(str, range(layout.width + 1))), name)
    read_csv: Any = pd.read_csv  # its stubs do not know readers that bring only what pandas asks for
    try:
        with read_csv(
            text,
            sep=layout.delimiter,
            usecols=[*layout.places.values(), layout.width],
            dtype=object,
            na_filter=False,
            index_col=False,
            chunksize=_rows_a_batch(block, batch_rows),
        ) as frames:
            for frame in frames:
                text.rows_are_out()
                rows_before += len(frame)
                yield _without_surplus(frame, layout)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, MemoryError) as error:
        raise SourceFailed(text.failure or _in_words(str(error), rows_before, name)) from None


def _rows_a_batch(block: Block, most: int) -> int:
    """So few that wide rows are not taken for one without an end."""
    return max(1, min(most, USUAL_BATCH * block.data.count(b"\n") // (len(block.data) + 1)))


def _without_surplus(frame: Any, layout: Layout) -> Frame:
    surplus = frame[str(layout.width)] != ""
    columns = {name: frame[str(place)] for name, place in layout.places.items()}
    left_out: tuple[Rejection, ...] = ()
    if surplus.any():
        first = layout.delimiter.join(map(str, frame[surplus].iloc[0]))
        left_out = (Rejection(TOO_MANY, int(surplus.sum()), first[:LONGEST_EXAMPLE]),)
        columns = {name: column[~surplus] for name, column in columns.items()}
    return {name: column.to_numpy(dtype=object) for name, column in columns.items()}, left_out


def _in_words(complaint: str, rows_before: int, name: str) -> str:
    _, never_closed, row = complaint.partition("EOF inside string starting at row ")
    if never_closed and row.isdigit():
        place = rows_before + int(row)
        return f"{name} has a quote in data row {place} that is never closed: close it, or double it."
    return f"{name} cannot be read as delimited text: check its quotes and delimiters."
