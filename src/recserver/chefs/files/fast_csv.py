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

MAX_ROW_BYTES = 16 * 2**20
"""Bytes. A file without line ends would swallow the memory otherwise."""

MAX_EXAMPLE_CHARS = 200

MAX_SPLIT_CHARS = 2**20
"""Characters of a row that is looked into to see where its surplus begins."""

SENTINEL = "end of block"

CACHE_BLOCK_BYTES = 2**16
"""Bytes that are looked at together: they stay near the processor."""

EXTRA_FIELDS = "has more fields than the header"


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
    unbounded: bool = False

    @property
    def has_quotes(self) -> bool:
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

    n_columns: int
    delimiter: str
    column_indices: dict[str, int]
    high_cardinality: set[str] = field(default_factory=set)


def split_blocks(read: Callable[[int], bytes], start: bytes, line: int, size: int, name: str) -> Iterator[Block]:
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
        if len(waiting) - end > MAX_ROW_BYTES:
            if b'"' not in waiting:
                raise SourceFailed(
                    f"{name} has a row longer than {MAX_ROW_BYTES >> 20} MiB after line {line}: look for missing "
                    "line ends."
                )
            end = -1  # one stray quote, as in 19" screen, or one that is never closed
        if end < 0 or (not more and count_byte(waiting, b'"') % 2):
            yield Block(waiting, line, unbounded=True)
            return
        if end:
            block, waiting = waiting[:end], waiting[end:]
            yield Block(block, line)
            line += count_byte(block, b"\n")
        if not more:
            return


def count_byte(data: bytes, byte: bytes, end: int | None = None) -> int:
    """As ``data.count(byte, 0, end)``, but several times as quick, and other threads run meanwhile."""
    import numpy as np

    if byte not in data:
        return 0
    numbers = np.frombuffer(data, np.uint8)[:end]
    steps = range(0, len(numbers), CACHE_BLOCK_BYTES)
    return sum(int(np.count_nonzero(numbers[start : start + CACHE_BLOCK_BYTES] == ord(byte))) for start in steps)


def _end_of_rows(data: bytes) -> int:
    """Where the last whole row of ``data`` ends; 0 if there is none; -1 if its quotes make no sense.

    Within quotes a line end is none of a row. Where quotes come in pairs, as they should, they are balanced at
    every end of a row.
    """
    end = data.rfind(b"\n") + 1
    quotes = count_byte(data, b'"', end)
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


def parse_block(block: Block, layout: Layout) -> tuple[dict[str, pa.ChunkedArray], tuple[Rejection, ...]] | None:
    """The wanted columns of a block, dictionary-encoded, and the rows with too many fields.

    None if the block holds anything that only the careful reader can judge: too few fields, text that is not
    UTF-8, NUL characters, a quote that its end leaves open.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if block.unbounded or b"\0" in block.data:
        return None
    too_long, example = 0, ""

    def judge_row(row: arrow_csv.InvalidRow) -> str:
        nonlocal too_long, example
        if row.actual_columns > layout.n_columns and _has_extra_fields(row.text, layout):
            too_long, example = too_long + 1, example or row.text[:MAX_EXAMPLE_CHARS]
            return "skip"
        return "error"

    data = block.data + _sentinel_row(layout) if block.has_quotes else block.data
    names = [str(place) for place in range(layout.n_columns)]
    text, encoded = pa.string(), pa.dictionary(pa.int32(), pa.string())
    kinds = {
        str(place): text if name in layout.high_cardinality else encoded
        for name, place in layout.column_indices.items()
    }
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
    columns = {name: table[str(place)] for name, place in layout.column_indices.items()}
    if block.has_quotes:
        if not all(len(one) and one[-1].as_py() == SENTINEL for one in columns.values()):
            return None
        columns = {name: one.slice(0, len(one) - 1) for name, one in columns.items()}
    return columns, (Rejection(EXTRA_FIELDS, too_long, example),) if too_long else ()


def _sentinel_row(layout: Layout) -> bytes:
    """A row put behind a block: an open quote would swallow it, as it swallows the rows before."""
    return ("\n" + layout.delimiter.join([SENTINEL] * layout.n_columns) + "\n").encode()


def ends_inside_quotes(block: Block, layout: Layout) -> bool:
    """Whether a quote is open where a block ends, so that its last row goes on in the next.

    Where quotes stand in the middle of fields, counting them does not tell.
    """
    if not block.has_quotes:
        return False
    text = (block.data + _sentinel_row(layout)).decode("utf-8", "replace")
    try:
        last = deque(csv.reader(io.StringIO(text, newline=""), delimiter=layout.delimiter), maxlen=1)[0]
    except csv.Error:  # a field of more than 128 KiB
        return True
    return last != [SENTINEL] * layout.n_columns


def _has_extra_fields(row: str, layout: Layout) -> bool:
    """Whether there is something in the first field too many: a comma at the end of a row does no harm."""
    if len(row) > MAX_SPLIT_CHARS:
        return True
    try:
        fields = (
            next(csv.reader([row], delimiter=layout.delimiter), []) if '"' in row else row.split(layout.delimiter)
        )
    except csv.Error:
        return True
    return len(fields) > layout.n_columns and fields[layout.n_columns] != ""


def detect_high_cardinality(columns: dict[str, pa.ChunkedArray], layout: Layout) -> None:
    """Learn from a block which columns are better read as plain text."""
    import pyarrow as pa

    for name, column in columns.items():
        if column.num_chunks and pa.types.is_dictionary(column.type):
            distinct = len(column.chunk(0).dictionary)
            if distinct > len(column) // 2 and len(column) > 1000:
                layout.high_cardinality.add(name)
