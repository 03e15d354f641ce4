"""Exports to files: Parquet, CSV or JSON lines."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, BinaryIO

from recserver._internal.core.errors import ExportFailed, os_error_text
from recserver._internal.training.export.export_job import COLUMNS, ExportRow, FileTarget, WriteRows

if TYPE_CHECKING:
    import pyarrow as pa

GZIP_LEVEL = 6
"""Of ``.csv.gz``: Arrow always uses the slowest level."""


@contextmanager
def open_file_target(target: FileTarget) -> Iterator[WriteRows]:
    """Write rows to a new file, which is synced to the disk at the end of the block.

    Raises:
        ExportFailed: if it cannot be written.
    """
    try:
        with target.out.open("xb") as file:
            with WRITERS[target.extension](file) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ExportFailed(
            f"The file could not be written ({os_error_text(error)}): check the disk and its permissions."
        ) from None


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = pa.string(), pa.int64(), pa.string(), pa.int32(), pa.string(), pa.float64()
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in zip(COLUMNS, kinds, strict=True)])


def _table(rows: Sequence[ExportRow]) -> pa.Table:
    import pyarrow as pa

    schema = _schema()
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


@contextmanager
def _parquet(file: BinaryIO) -> Iterator[WriteRows]:
    from pyarrow.parquet import ParquetWriter

    texts_and_ranks = [name for name in COLUMNS if name != "score"]  # columns of many repeated values
    with ParquetWriter(file, _schema(), compression="zstd", use_dictionary=texts_and_ranks) as writer:
        yield lambda rows: writer.write_table(_table(rows))


@contextmanager
def _csv(file: BinaryIO) -> Iterator[WriteRows]:
    from pyarrow.csv import CSVWriter

    with CSVWriter(file, _schema()) as writer:
        yield lambda rows: writer.write_table(_table(rows))


@contextmanager
def _gzipped_csv(file: BinaryIO) -> Iterator[WriteRows]:
    with gzip.GzipFile("", "wb", GZIP_LEVEL, file) as packed, _csv(packed) as write:  # type: ignore[arg-type]
        yield write


@contextmanager
def _json_lines(file: BinaryIO) -> Iterator[WriteRows]:
    from pydantic_core import to_json

    yield lambda rows: file.writelines(to_json(dict(zip(COLUMNS, row, strict=True))) + b"\n" for row in rows)


WRITERS: Mapping[str, Callable[[BinaryIO], AbstractContextManager[WriteRows]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".csv.gz": _gzipped_csv,
    ".jsonl": _json_lines,
}
