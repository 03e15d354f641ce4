"""Rows of a Parquet file as Arrow columns."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from recserver.chefs.chef_entry import column_indices
from recserver.chefs.protocol import Batch
from recserver.core.errors import SourceFailed


def read_parquet(
    raw: BinaryIO, wanted: Collection[str] | None, batch_rows: int, max_bytes: int, name: str
) -> Iterator[Batch]:
    """The wanted columns; text is dictionary-encoded, as it often is in the file.

    Args:
        raw: the open file.
        wanted: names of columns; None means all.
        batch_rows: rows a batch.
        max_bytes: limit of the file's size after decompression.
        name: the file's name in messages.

    Raises:
        SourceFailed: if it is not a Parquet file, damaged, or too large.
    """
    import pyarrow as pa
    from pyarrow import parquet

    broken = f"{name} cannot be read as Parquet: write it anew, or correct the format of the data chef."
    try:
        schema = parquet.ParquetFile(raw).schema_arrow
        found = tuple(schema.names)
        places = column_indices(found, wanted, name, "write them under different names")
        texts = [one for one in places if pa.types.is_string(schema.field(one).type)]
        file = parquet.ParquetFile(raw, read_dictionary=texts)
        _check_size(file, max_bytes, name)
    except (pa.ArrowException, OSError, ValueError):  # the last for names that are not text
        raise SourceFailed(broken) from None
    size, rows = os.fstat(raw.fileno()).st_size, max(1, file.metadata.num_rows)
    yield Batch(found, {one: pa.nulls(0) for one in places})
    if not places:
        return
    counted = done = 0
    try:
        for part in file.iter_batches(batch_size=batch_rows, columns=list(places)):
            if any(map(_has_invalid_indices, part.columns)):
                raise SourceFailed(broken)
            done += part.num_rows
            share = size * done // rows
            yield Batch(found, dict(zip(part.schema.names, part.columns, strict=True)), share - counted)
            counted = share
    except (pa.ArrowException, OSError, ValueError):
        raise SourceFailed(broken) from None


def _has_invalid_indices(column: Any) -> bool:
    """Whether a column has indices beyond its dictionary: damage that the Parquet reader does not detect."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(column, pa.DictionaryArray):
        return False
    ends = pc.min_max(column.indices).as_py()
    return ends["max"] is not None and (ends["min"] < 0 or ends["max"] >= len(column.dictionary))


def _check_size(file: Any, max_bytes: int, name: str) -> None:
    groups = range(file.metadata.num_row_groups)
    if sum(file.metadata.row_group(one).total_byte_size for one in groups) > max_bytes:
        raise SourceFailed(
            f"{name} holds more than {max_bytes} bytes: split it, or raise RECSERVER_MAX_FILE_BYTES."
        )
