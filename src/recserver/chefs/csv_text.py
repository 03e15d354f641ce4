"""The text of a CSV file as pandas may read it: decoded, checked, counted, its header taken off."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from recserver.errors import SourceFailed

MOST_BETWEEN_BATCHES = 256 * 2**20
"""Characters that one batch of rows may span. A quote that is never closed would swallow the whole file."""

LONGEST_HEADER = 2**20


class CsvText:
    """A reader of UTF-8 text, byte order mark or not, that knows at which line it is.

    Attributes:
        failure: the sentence that :meth:`read` failed with, if it did: pandas does not always pass it on.
    """

    def __init__(self, raw: BinaryIO, source: str) -> None:
        self.failure = ""
        self._raw = raw
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._ahead = ""
        self._line = 1
        self._since_batch = 0

    def header(self) -> list[str]:
        """The names in the first line that is not blank, surrounding blanks removed.

        Raises:
            SourceFailed: if there is none.
        """
        start = self._text(LONGEST_HEADER)
        lines = io.StringIO(start, newline="")
        try:
            names = next((row for row in csv.reader(lines) if any(map(str.strip, row))), None)
        except csv.Error:
            names, start = None, "quote"
        self._ahead = lines.read()
        if names is None or (not self._ahead and len(start) >= LONGEST_HEADER):
            problem = "has no readable header line" if start.strip() else "is empty"
            raise SourceFailed(f"{self._source} {problem}: its first line must name the columns.")
        return [name.strip() for name in names]

    def under(self, header: str) -> CsvText:
        """This text with ``header`` as its first line."""
        self._ahead = f"{header}\n{self._ahead}"
        return self

    def rows_are_out(self) -> None:
        """A batch was handed over: the next one has its full allowance."""
        self._since_batch = 0

    def read(self, size: int = -1) -> str:
        """Up to ``size`` bytes' worth of text; "" at the end.

        Raises:
            SourceFailed: for text that is not UTF-8, NUL characters, or a batch without an end.
        """
        text, self._ahead = self._ahead or self._text(size), ""
        self._since_batch += len(text)
        if self._since_batch > MOST_BETWEEN_BATCHES:
            self._fail(f"has no end of row for very long before line {self._line}: look for an open quote")
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self.read, "")

    def _text(self, size: int) -> str:
        text = ""
        while not text:  # a few bytes may be only the beginning of a character, or a byte order mark
            data = self._raw.read(size)
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                self._line += bytes(error.object)[: error.start].count(b"\n")
                self._fail(f"is not UTF-8 at line {self._line}: save it as UTF-8")
            if not data:
                break
        if (nul := text.find("\0")) >= 0:
            self._line += text.count("\n", 0, nul)
            self._fail(f"holds a NUL character at line {self._line}: save it as plain UTF-8 text")
        self._line += text.count("\n")
        return text

    def _fail(self, problem: str) -> None:
        self.failure = f"{self._source} {problem}."
        raise SourceFailed(self.failure)
