"""Rows of an Arrow IPC file, which Feather of version 2 is as well, as Arrow columns."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from recserver.chefs.chef_entry import column_indices
from recserver.chefs.protocol import Batch
from recserver.core.errors import SourceFailed

RELATED_FORMATS = {
    b"\xff\xff\xff\xff": "an Arrow stream: write it as an Arrow file",
    b"FEA1": "Feather of version 1: write it in version 2",
}
"""First bytes of files with the same suffixes that are not read, and what to do about such a file."""


def read_arrow_ipc(
    raw: BinaryIO, wanted: Collection[str] | None, batch_rows: int, max_bytes: int, name: str
) -> Iterator[Batch]:
    """The wanted columns. One record batch of the file is in memory at a time, without the other columns.

    Args:
        raw: the open file.
        wanted: names of columns; None means all.
        batch_rows: rows a batch, at most.
        max_bytes: limit of the file's size, and of the wanted columns after decompression.
        name: the file's name in messages.

    Raises:
        SourceFailed: if it is not an Arrow IPC file, damaged, or too large.
    """
    import pyarrow as pa
    from pyarrow import ipc

    broken = f"{name} cannot be read as Arrow: write it anew, or correct the format of the data chef."
    too_large = f"{name} holds more than {max_bytes} bytes: split it, or raise RECSERVER_MAX_FILE_BYTES."
    start = raw.peek(8)[:8]  # type: ignore[attr-defined]
    for magic, description in RELATED_FORMATS.items():
        if start.startswith(magic):
            raise SourceFailed(f"{name} is {description}.")
    size = os.fstat(raw.fileno()).st_size
    if size > max_bytes:
        raise SourceFailed(too_large)
    try:
        found = tuple(ipc.open_file(raw).schema.names)
        places = column_indices(found, wanted, name, "write them under different names")
        options = ipc.IpcReadOptions(included_fields=list(places.values()))
        file = ipc.open_file(raw, options=options)
    except (pa.ArrowException, OSError, ValueError):  # the last for names that are not text
        raise SourceFailed(broken) from None
    yield Batch(found, {one: pa.nulls(0) for one in places})
    if not places:
        return  # Arrow takes no fields for all
    n_bytes = counted = 0
    try:
        for index in range(file.num_record_batches):
            record_batch = file.get_batch(index)
            record_batch.validate()
            checked = dict(zip(places, map(_checked, record_batch.columns), strict=True))
            share = size * (index + 1) // file.num_record_batches
            for first in range(0, record_batch.num_rows, batch_rows):
                columns = {one: _decoded(column.slice(first, batch_rows)) for one, column in checked.items()}
                n_bytes += sum(map(_own_bytes, columns.values()))
                if n_bytes > max_bytes:
                    raise SourceFailed(too_large)
                yield Batch(found, columns, share - counted)
                counted = share
    except (pa.ArrowException, OSError, ValueError):
        raise SourceFailed(broken) from None


def _checked(column: Any) -> Any:
    """A column whose offsets and indices stay within it, which Arrow takes for granted: a wrong one would read
    memory that is not the file's. Text that is not UTF-8 is left to the row validation.

    Raises:
        ArrowInvalid: if the file is damaged.
    """
    import pyarrow as pa

    if isinstance(column, pa.DictionaryArray):
        values = _checked(column.dictionary)
        if pa.types.is_string_view(values.type):  # which Arrow cannot decode
            values = values.cast(pa.string())
        pa.DictionaryArray.from_arrays(column.indices, _as_binary(values), safe=False).validate(full=True)
        return pa.DictionaryArray.from_arrays(column.indices, values, safe=False)
    _as_binary(column).validate(full=True)
    return column


def _as_binary(column: Any) -> Any:
    """Text as its bytes, so that its encoding is not validated."""
    import pyarrow as pa

    binary_types = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    return column.view(binary_types[column.type]) if column.type in binary_types else column


def _decoded(column: Any) -> Any:
    """A column without runs, and without a dictionary of more values than rows: all of its values would be parsed
    for every batch.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.RunEndEncodedArray):
        return pc.run_end_decode(column)
    if isinstance(column, pa.DictionaryArray) and len(column.dictionary) > len(column):
        return column.dictionary_decode()
    return column


def _own_bytes(column: Any) -> int:
    """The size of a column, without a dictionary that it shares with other batches."""
    import pyarrow as pa

    return int((column.indices if isinstance(column, pa.DictionaryArray) else column).nbytes)
