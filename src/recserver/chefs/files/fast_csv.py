"""The quick way through a CSV file: blocks that end where rows end, taken apart by pyarrow in several threads."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recserver.chefs.protocol import Rejection
from recserver.core.errors import SourceFailed

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_ROW = 16 * 2**20
"""Bytes. A file without line ends would swallow the memory otherwise."""

LONGEST_EXAMPLE = 200

LONGEST_SPLIT = 2**20
"""Characters of a row that is looked into to see where its surplus begins."""

LAST = "end of block"

CACHED = 2**16
"""Bytes that are looked at together: they stay near the processor."""

TOO_MANY = "has more fields than the header"


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole rows of a file.

    Attributes:
        data: UTF-8.
        line: number of its first line in the file.
        to_the_end: whether nobody can tell where its rows end: the careful reader must read all that follows.
    """

    data: bytes
    line: int
    to_the_end: bool = False

    @property
    def quoted(self) -> bool:
        """Whether it holds any quote."""
        return b'"' in self.data


@dataclass(slots=True)
class Layout:
    """How the rows of a file are to be read.

    Attributes:
        width: fields of the header.
        delimiter: one character.
        places: wanted column → its place.
        plain: those of which nearly every value differs, so that dictionaries of them are of no use.
    """

    width: int
    delimiter: str
    places: dict[str, int]
    plain: set[str] = field(default_factory=set)


def blocks(read: Callable[[int], bytes], start: bytes, line: int, size: int, name: str) -> Iterator[Block]:
    """The text behind the header in blocks of about ``size`` bytes.

    Args:
        read: gives more of the text, b"" at its end.
        start: text that was read already; ``line`` is the number of its first line.
        name: how sentences call the file.
    """
    waiting = start
    while True:
        more = read(size)
        waiting += more
        end = len(waiting) if not more else _end_of_rows(waiting)
        if len(waiting) - end > LONGEST_ROW:
            if b'"' not in waiting:
                raise SourceFailed(
                    f"{name} has a row longer than {LONGEST_ROW >> 20} MiB after line {line}: look for missing "
                    "line ends."
                )
            end = -1  # one stray quote, as in 19" screen, or one that is never closed
        if end < 0 or (not more and count(waiting, b'"') % 2):
            yield Block(waiting, line, to_the_end=True)
            return
        if end:
            block, waiting = waiting[:end], waiting[end:]
            yield Block(block, line)
            line += count(block, b"\n")
        if not more:
            return


def count(data: bytes, byte: bytes, end: int | None = None) -> int:
    """As ``data.count(byte, 0, end)``, but several times as quick, and other threads run meanwhile."""
    import numpy as np

    if byte not in data:
        return 0
    numbers = np.frombuffer(data, np.uint8)[:end]
    steps = range(0, len(numbers), CACHED)
    return sum(int(np.count_nonzero(numbers[start : start + CACHED] == ord(byte))) for start in steps)


def _end_of_rows(data: bytes) -> int:
    """Where the last whole row of ``data`` ends; 0 if there is none; -1 if its quotes make no sense.

    Within quotes a line end is none of a row. Where quotes come in pairs, as they should, they are balanced at
    every end of a row.
    """
    end = data.rfind(b"\n") + 1
    quotes = count(data, b'"', end)
    if quotes % 2:  # the last quote opens a field that goes on behind the end
        end = data.rfind(b"\n", 0, data.rfind(b'"', 0, end)) + 1
        quotes -= 1
    if not quotes or not end:
        return end
    last = data[data.rfind(b"\n", 0, end - 1) + 1 : end]
    try:  # stray quotes, as in 19" screen, may have balanced an open one
        list(csv.reader([last.decode("utf-8", "replace")], strict=True))
    except csv.Error:
        return -1
    return end


def parsed(block: Block, layout: Layout) -> tuple[dict[str, pa.ChunkedArray], tuple[Rejection, ...]] | None:
    """The wanted columns of a block, dictionary-encoded, and the rows with too many fields.

    None if the block holds anything that only the careful reader can judge: too few fields, text that is not
    UTF-8, NUL characters, a quote that its end leaves open.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if block.to_the_end or b"\0" in block.data:
        return None
    too_long, example = 0, ""

    def judge_row(row: arrow_csv.InvalidRow) -> str:
        nonlocal too_long, example
        if row.actual_columns > layout.width and _surplus(row.text, layout):
            too_long, example = too_long + 1, example or row.text[:LONGEST_EXAMPLE]
            return "skip"
        return "error"

    data = block.data + _last_row(layout) if block.quoted else block.data
    names = [str(place) for place in range(layout.width)]
    text, encoded = pa.string(), pa.dictionary(pa.int32(), pa.string())
    kinds = {str(place): text if name in layout.plain else encoded for name, place in layout.places.items()}
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=judge_row
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(kinds), column_types=kinds, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    columns = {name: table[str(place)] for name, place in layout.places.items()}
    if block.quoted:
        if not all(len(one) and one[-1].as_py() == LAST for one in columns.values()):
            return None
        columns = {name: one.slice(0, len(one) - 1) for name, one in columns.items()}
    return columns, (Rejection(TOO_MANY, too_long, example),) if too_long else ()


def _last_row(layout: Layout) -> bytes:
    """A row put behind a block: an open quote would swallow it, as it swallows the rows before."""
    return ("\n" + layout.delimiter.join([LAST] * layout.width) + "\n").encode()


def ends_open(block: Block, layout: Layout) -> bool:
    """Whether a quote is open where a block ends, so that its last row goes on in the next.

    Where quotes stand in the middle of fields, counting them does not tell.
    """
    if not block.quoted:
        return False
    text = (block.data + _last_row(layout)).decode("utf-8", "replace")
    try:
        last = deque(csv.reader(io.StringIO(text, newline=""), delimiter=layout.delimiter), maxlen=1)[0]
    except csv.Error:  # a field of more than 128 KiB
        return True
    return last != [LAST] * layout.width


def _surplus(row: str, layout: Layout) -> bool:
    """Whether there is something in the first field too many: a comma at the end of a row does no harm."""
    if len(row) > LONGEST_SPLIT:
        return True
    try:
        fields = (
            next(csv.reader([row], delimiter=layout.delimiter), []) if '"' in row else row.split(layout.delimiter)
        )
    except csv.Error:
        return True
    return len(fields) > layout.width and fields[layout.width] != ""


def note_distinct(columns: dict[str, pa.ChunkedArray], layout: Layout) -> None:
    """Learn from a block which columns are better read as plain text."""
    import pyarrow as pa

    for name, column in columns.items():
        if column.num_chunks and pa.types.is_dictionary(column.type):
            distinct = len(column.chunk(0).dictionary)
            if distinct > len(column) // 2 and len(column) > 1000:
                layout.plain.add(name)
