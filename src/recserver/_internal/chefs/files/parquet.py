"""Reads Parquet files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from recserver._internal.chefs.chef_entry import column_indices
from recserver._internal.chefs.protocol import Batch
from recserver._internal.core.errors import SourceFailed


def read_parquet(
    raw: BinaryIO, requested: Collection[str] | None, batch_rows: int, max_bytes: int, name: str
) -> Iterator[Batch]:
    """Batches of the requested columns; text is dictionary-encoded, as it often is in the file.

    Args:
        raw: the open file.
        requested: names of columns; None means all.
        batch_rows: rows per batch.
        max_bytes: maximum size of the file after decompression.
        name: the file's name in messages.

    Raises:
        SourceFailed: if it is not a Parquet file, damaged, or too large.
    """
    import pyarrow as pa
    from pyarrow import parquet

    damaged = f"{name} cannot be read as Parquet: create it again, or correct the format of the data chef."
    try:
        schema = parquet.ParquetFile(raw).schema_arrow
        column_names = tuple(schema.names)
        columns = list(column_indices(column_names, requested, name, "give them different names"))
        text_columns = [column for column in columns if pa.types.is_string(schema.field(column).type)]
        file = parquet.ParquetFile(raw, read_dictionary=text_columns)
        _check_size(file, max_bytes, name)
    except (pa.ArrowException, OSError, ValueError):  # ValueError if names are not valid UTF-8
        raise SourceFailed(damaged) from None
    size, n_rows = os.fstat(raw.fileno()).st_size, max(1, file.metadata.num_rows)
    yield Batch(column_names, {column: pa.nulls(0) for column in columns})
    if not columns:
        return
    bytes_reported = rows_read = 0
    try:
        for part in file.iter_batches(batch_size=batch_rows, columns=columns):
            if any(map(_has_invalid_indices, part.columns)):
                raise SourceFailed(damaged)
            rows_read += part.num_rows
            bytes_read = size * rows_read // n_rows  # an estimate
            named = dict(zip(part.schema.names, part.columns, strict=True))
            yield Batch(column_names, named, bytes_read - bytes_reported)
            bytes_reported = bytes_read
    except (pa.ArrowException, OSError, ValueError):
        raise SourceFailed(damaged) from None


def _has_invalid_indices(column: Any) -> bool:
    """Whether a column has indices outside its dictionary: damage that the Parquet reader does not detect."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(column, pa.DictionaryArray):
        return False
    limits = pc.min_max(column.indices).as_py()
    return limits["max"] is not None and (limits["min"] < 0 or limits["max"] >= len(column.dictionary))


def _check_size(file: Any, max_bytes: int, name: str) -> None:
    groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
    if sum(group.total_byte_size for group in groups) > max_bytes:
        raise SourceFailed(
            f"{name} holds more than {max_bytes} bytes: split it, or raise RECSERVER_MAX_FILE_BYTES."
        )
