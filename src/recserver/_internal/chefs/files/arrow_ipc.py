"""Reads Arrow IPC files, which include Feather version 2."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from recserver._internal.chefs.chef_entry import column_indices
from recserver._internal.chefs.protocol import Batch
from recserver._internal.core.errors import SourceFailed

RELATED_FORMATS = {
    b"\xff\xff\xff\xff": "an Arrow stream: write it as an Arrow file",
    b"FEA1": "Feather version 1: write it in version 2",
}
"""First bytes of files with the same suffixes that are not supported, and the remedy."""


def read_arrow_ipc(
    raw: BinaryIO, requested: Collection[str] | None, batch_rows: int, max_bytes: int, name: str
) -> Iterator[Batch]:
    """Batches of the requested columns. One record batch of the file is in memory at a time.

    Args:
        raw: the open file.
        requested: names of columns; None means all.
        batch_rows: maximum number of rows in a batch.
        max_bytes: maximum size of the file, and of the requested columns after decompression.
        name: the file's name in messages.

    Raises:
        SourceFailed: if it is not an Arrow IPC file, damaged, or too large.
    """
    import pyarrow as pa
    from pyarrow import ipc

    damaged = f"{name} cannot be read as Arrow: create it again, or correct the format of the data chef."
    too_large = f"{name} holds more than {max_bytes} bytes: split it, or raise RECSERVER_MAX_FILE_BYTES."
    start = raw.peek(8)[:8]  # type: ignore[attr-defined]
    for magic, description in RELATED_FORMATS.items():
        if start.startswith(magic):
            raise SourceFailed(f"{name} is {description}.")
    size = os.fstat(raw.fileno()).st_size
    if size > max_bytes:
        raise SourceFailed(too_large)
    try:
        column_names = tuple(ipc.open_file(raw).schema.names)
        indices = column_indices(column_names, requested, name, "give them different names")
        options = ipc.IpcReadOptions(included_fields=list(indices.values()))
        file = ipc.open_file(raw, options=options)
    except (pa.ArrowException, OSError, ValueError):  # ValueError if names are not valid UTF-8
        raise SourceFailed(damaged) from None
    yield Batch(column_names, {one: pa.nulls(0) for one in indices})
    if not indices:
        return  # an empty list would select all fields
    n_bytes = bytes_reported = 0
    try:
        for index in range(file.num_record_batches):
            record_batch = file.get_batch(index)
            record_batch.validate()
            validated = dict(zip(indices, map(_validated, record_batch.columns), strict=True))
            bytes_read = size * (index + 1) // file.num_record_batches
            for first in range(0, record_batch.num_rows, batch_rows):
                columns = {one: _decode(column.slice(first, batch_rows)) for one, column in validated.items()}
                n_bytes += sum(_own_bytes(column, record_batch.num_rows) for column in columns.values())
                if n_bytes > max_bytes:
                    raise SourceFailed(too_large)
                yield Batch(column_names, columns, bytes_read - bytes_reported)
                bytes_reported = bytes_read
    except (pa.ArrowException, OSError, ValueError):
        raise SourceFailed(damaged) from None


def _validated(column: Any) -> Any:
    """``column``, after its offsets and indices were validated: Arrow does not check them by default, and a wrong
    one would read other memory of the process. Text that is not UTF-8 is left to row validation.

    Raises:
        ArrowInvalid: if the file is damaged.
    """
    import pyarrow as pa

    if isinstance(column, pa.DictionaryArray):
        values = _validated(column.dictionary)
        if pa.types.is_string_view(values.type):  # Arrow cannot decode a dictionary of them
            values = values.cast(pa.string())
        pa.DictionaryArray.from_arrays(column.indices, _as_binary(values), safe=False).validate(full=True)
        return pa.DictionaryArray.from_arrays(column.indices, values, safe=False)
    _as_binary(column).validate(full=True)
    return column


def _as_binary(column: Any) -> Any:
    """Text as bytes, so that its encoding is not validated."""
    import pyarrow as pa

    binary_types = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    return column.view(binary_types[column.type]) if column.type in binary_types else column


def _decode(column: Any) -> Any:
    """``column`` without run-end encoding, and without a dictionary that has more values than the column has rows,
    because all values of a dictionary are parsed for every batch.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.RunEndEncodedArray):
        return pc.run_end_decode(column)
    if isinstance(column, pa.DictionaryArray) and len(column.dictionary) > len(column):
        return column.dictionary_decode()
    return column


def _own_bytes(column: Any, n_rows: int) -> int:
    """The size of a column, without a dictionary that other batches share.

    Args:
        column: the column, or a part of it.
        n_rows: number of rows of the whole column.
    """
    import pyarrow as pa

    own = column.indices if isinstance(column, pa.DictionaryArray) else column
    try:
        return int(own.nbytes)
    except pa.ArrowTypeError:  # views, before Arrow 24: their share of the whole column
        return int(own.get_total_buffer_size() * len(own) // n_rows)
