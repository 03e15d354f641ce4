"""The fast CSV parser, by pyarrow. The file is split into blocks of whole rows, which are parsed in parallel."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recserver._internal.chefs.protocol import Rejection
from recserver._internal.core.errors import SourceFailed

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROW_BYTES = 16 * 2**20
"""Bytes. Without a limit, a file without line ends would exhaust memory."""

MAX_EXAMPLE_CHARS = 200

MAX_SPLIT_CHARS = 2**20
"""Characters. Longer rows are rejected without checking whether the first extra field is empty."""

SENTINEL = "end of block"

CACHE_BLOCK_BYTES = 2**16
"""Bytes that are counted at a time: as many as fit into the processor's cache."""

EXTRA_FIELDS = "has more fields than the header"


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive whole rows of a file.

    Attributes:
        data: UTF-8 text.
        line: number of its first line in the file.
        unbounded: whether the end of its last row is unknown, so that the strict parser must parse the rest of the
            file.
    """

    data: bytes
    line: int
    unbounded: bool = False


@dataclass(slots=True)
class Layout:
    """The layout of the rows of a file.

    Attributes:
        n_columns: number of columns in the header.
        delimiter: one character.
        column_indices: requested column → its index.
        high_cardinality: columns with mostly distinct values, which are not dictionary-encoded.
    """

    n_columns: int
    delimiter: str
    column_indices: dict[str, int]
    high_cardinality: set[str] = field(default_factory=set)


def split_blocks(read: Callable[[int], bytes], start: bytes, line: int, size: int, name: str) -> Iterator[Block]:
    """The text after the header in blocks of about ``size`` bytes.

    Args:
        read: returns more of the text, b"" at its end.
        start: text that was read already.
        line: number of its first line.
        name: the file's name in messages.

    Raises:
        SourceFailed: if a row without quotes is longer than :data:`MAX_ROW_BYTES`.
    """
    buffer = start
    while True:
        more = read(size)
        buffer += more
        end = len(buffer) if not more else _end_of_rows(buffer)
        if len(buffer) - end > MAX_ROW_BYTES:
            if b'"' not in buffer:
                raise SourceFailed(
                    f"{name} has a row longer than {MAX_ROW_BYTES >> 20} MiB after line {line}: check for missing "
                    "line ends."
                )
            end = -1  # a stray quote, as in 19" screen, or one that is never closed
        if end < 0 or (not more and count_byte(buffer, b'"') % 2):
            yield Block(buffer, line, unbounded=True)
            return
        if end:
            block, buffer = buffer[:end], buffer[end:]
            yield Block(block, line)
            line += count_byte(block, b"\n")
        if not more:
            return


def count_byte(data: bytes, byte: bytes, end: int | None = None) -> int:
    """``data.count(byte, 0, end)``, but several times faster, and without the GIL."""
    import numpy as np

    if byte not in data:
        return 0
    numbers = np.frombuffer(data, np.uint8)[:end]
    steps = range(0, len(numbers), CACHE_BLOCK_BYTES)
    return sum(int(np.count_nonzero(numbers[start : start + CACHE_BLOCK_BYTES] == ord(byte))) for start in steps)


def _end_of_rows(data: bytes) -> int:
    """The end of the last whole row of ``data``; 0 if there is none; -1 if its quotes are malformed.

    Line breaks within quotes do not end a row. Quotes should come in pairs; then they are balanced at the end of
    every row.
    """
    end = data.rfind(b"\n") + 1
    quotes = count_byte(data, b'"', end)
    if quotes % 2:  # the last quote opens a field that continues after the end
        end = data.rfind(b"\n", 0, data.rfind(b'"', 0, end)) + 1
        quotes -= 1
    if not quotes or not end:
        return end
    last = data[data.rfind(b"\n", 0, end - 1) + 1 : end]
    try:  # a stray quote, as in 19" screen, may have balanced an open one
        list(csv.reader([last.decode("utf-8", "replace")], strict=True))
    except csv.Error:
        return -1
    return end


def parse_block(block: Block, layout: Layout) -> tuple[dict[str, pa.ChunkedArray], tuple[Rejection, ...]] | None:
    """The requested columns of a block, dictionary-encoded, and the rejected rows, which have too many fields.

    None if only the strict parser can parse the block: because of rows with too few fields, invalid UTF-8, NUL
    characters, or an open quote at its end.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if block.unbounded or b"\0" in block.data:
        return None
    n_rejected, example = 0, ""

    def handle_invalid_row(row: arrow_csv.InvalidRow) -> str:
        nonlocal n_rejected, example
        if row.actual_columns > layout.n_columns and _has_extra_fields(row.text, layout):
            n_rejected, example = n_rejected + 1, example or row.text[:MAX_EXAMPLE_CHARS]
            return "skip"
        return "error"

    has_quotes = b'"' in block.data
    data = block.data + _sentinel_row(layout) if has_quotes else block.data
    names = [str(index) for index in range(layout.n_columns)]
    text, encoded = pa.string(), pa.dictionary(pa.int32(), pa.string())
    types = {
        str(index): text if name in layout.high_cardinality else encoded
        for name, index in layout.column_indices.items()
    }
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=handle_invalid_row
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(types), column_types=types, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    columns = {name: table[str(index)] for name, index in layout.column_indices.items()}
    if has_quotes:
        if not all(len(column) and column[-1].as_py() == SENTINEL for column in columns.values()):
            return None
        columns = {name: column.slice(0, len(column) - 1) for name, column in columns.items()}
    return columns, (Rejection(EXTRA_FIELDS, n_rejected, example),) if n_rejected else ()


def _sentinel_row(layout: Layout) -> bytes:
    """A row to append to a block: an open quote would swallow it."""
    return ("\n" + layout.delimiter.join([SENTINEL] * layout.n_columns) + "\n").encode()


def ends_inside_quotes(block: Block, layout: Layout) -> bool:
    """Whether a quote is open at the end of a block, so that its last row continues in the next block.

    Counting quotes is not enough if there are quotes in the middle of fields, so the block is parsed.
    """
    if block.unbounded or b'"' not in block.data:
        return block.unbounded
    text = (block.data + _sentinel_row(layout)).decode("utf-8", "replace")
    try:
        last = deque(csv.reader(io.StringIO(text, newline=""), delimiter=layout.delimiter), maxlen=1)[0]
    except csv.Error:  # a field longer than csv.field_size_limit()
        return True
    return last != [SENTINEL] * layout.n_columns


def _has_extra_fields(row: str, layout: Layout) -> bool:
    """Whether the first extra field is not empty, as it is after a trailing comma."""
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
    """Add the columns of a first block whose values are mostly distinct: they are faster to read as plain text."""
    import pyarrow as pa

    for name, column in columns.items():
        if column.num_chunks and pa.types.is_dictionary(column.type):
            distinct = len(column.chunk(0).dictionary)
            if distinct > len(column) // 2 and len(column) > 1000:
                layout.high_cardinality.add(name)
