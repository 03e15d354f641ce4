"""The fast path from a database: Arrow columns, if an ADBC driver is installed.

It is used only if every value is the same as through the ordinary driver, which yields rows of Python objects;
otherwise it raises :class:`FastPathUnavailable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from uuid import UUID

from recserver.chefs.chef_entry import empty_column, object_column
from recserver.chefs.protocol import Batch, Column, RestartRead
from recserver.chefs.sql.error_messages import raise_timeout

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import URL

DRIVERS = {"postgresql": "adbc_driver_postgresql", "sqlite": "adbc_driver_sqlite"}

# fmt: off
NATIVE_TYPES = frozenset({
    "text", "varchar", "bpchar", "name", "int2", "int4", "int8", "float8", "bool", "date", "timestamp",
    "timestamptz", "bytea",
})
# fmt: on
"""PostgreSQL types whose values Arrow holds unchanged."""

CONVERTED_TYPES = frozenset({"numeric", "uuid", "float4"})
"""PostgreSQL types whose distinct values are converted to those of the ordinary driver."""

ARROW_TYPES = {str: "string", int: "int64", float: "double"}

EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
MICROSECONDS_PER_DAY = 86_400_000_000
"""The unit of PostgreSQL timestamps is the microsecond."""

POSTGRESQL_BATCH_BYTES = 4 * 2**20
"""Approximate size of the driver's batches, in bytes."""


class FastPathUnavailable(Exception):
    """The query must be read with the ordinary driver. Raised only before the first row."""


def driver_available(dialect: str) -> bool:
    """Whether the ADBC driver of a database is installed."""
    return dialect in DRIVERS and find_spec(DRIVERS[dialect]) is not None


def read_postgresql(
    url: URL, query: str, wanted: Collection[str], statements: list[str], timed_out: Callable[[], bool]
) -> Iterator[Batch]:
    """The wanted columns of a query's result.

    Args:
        url: of the database, with the driver's parameters.
        query: one SELECT.
        statements: executed before it, in its transaction.
        timed_out: called between batches.

    Raises:
        FastPathUnavailable: if a wanted column has an unsupported type, or anything fails before the first row:
            the ordinary driver has better error messages.
        RestartRead: at a date that Python cannot represent; the ordinary driver loads it as text.
        TimeoutError: after a timeout.
    """
    from adbc_driver_postgresql import dbapi

    try:
        connection = dbapi.connect(_libpq_url(url))
    except dbapi.Error:
        raise FastPathUnavailable from None
    with raise_timeout(timed_out), closing(connection), closing(connection.cursor()) as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(POSTGRESQL_BATCH_BYTES)})
        try:
            for statement in statements:
                cursor.execute(statement)
            found = tuple(cursor.adbc_execute_schema(query).names)
            names = [name for name in found if name in wanted]
            narrow = _select_columns(query, names or found[:1])
            schema = cursor.adbc_execute_schema(narrow)
            if not all(map(_is_supported, schema)):
                raise FastPathUnavailable
            if names:
                cursor.execute(narrow)
        except dbapi.Error:
            raise FastPathUnavailable from None
        yield Batch(found, {name: empty_column() for name in names})
        for part in cursor.fetch_record_batch() if names else ():
            if timed_out():
                raise TimeoutError
            if any(_has_unrepresentable_times(part.column(name)) for name in names):
                raise RestartRead
            yield Batch(found, {name: _convert_values(part.column(name), schema.field(name)) for name in names})


def _libpq_url(url: URL) -> str:
    """``url`` in the encoding of libpq: spaces are %20, and a plus is a plus."""
    plain = url.set(drivername="postgresql", query={}).render_as_string(hide_password=False)
    return f"{plain.replace(' ', '%20')}?{urlencode(url.query, doseq=True, quote_via=quote)}"


def _postgresql_type(field: pa.Field) -> str:
    kind: bytes = (field.metadata or {}).get(b"POSTGRESQL:type", b"")
    return kind.decode()


def _is_supported(field: pa.Field) -> bool:
    return _postgresql_type(field) in NATIVE_TYPES | CONVERTED_TYPES


def _has_unrepresentable_times(column: pa.Array) -> bool:
    """Whether a column has dates or times outside of the years 1 to 9999, "infinity" included."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_date32(column.type):
        numbers, ticks_a_day = column.cast(pa.int32()), 1
    elif pa.types.is_timestamp(column.type):
        numbers, ticks_a_day = column.cast(pa.int64()), MICROSECONDS_PER_DAY
    else:
        return False
    ends = pc.min_max(numbers).as_py()
    first, last = ((day.toordinal() - EPOCH_ORDINAL) * ticks_a_day for day in (date.min, date.max))
    return ends["min"] is not None and (ends["min"] < first or ends["max"] >= last + ticks_a_day)


def _convert_values(column: pa.Array, field: pa.Field) -> Column:
    """A column with the values that the ordinary driver yields."""
    import pyarrow as pa

    kind = _postgresql_type(field)
    if kind in NATIVE_TYPES:
        return column
    plain = column.storage if isinstance(column, pa.ExtensionArray) else column
    coded = plain.dictionary_encode()
    values = [None if one is None else _CONVERTERS[kind](one) for one in coded.dictionary.to_pylist()]
    try:
        return pa.DictionaryArray.from_arrays(coded.indices, pa.array(values))
    except (pa.ArrowException, TypeError):  # too long, NaN or infinite decimals
        return object_column([None if place is None else values[place] for place in coded.indices.to_pylist()])


def _shortest_float32(value: float) -> float:
    """A 32-bit number by its shortest decimal form: 0.1, not 0.10000000149."""
    import numpy as np

    return float(str(np.float32(value))) if math.isfinite(value) else value


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "numeric": Decimal,
    "uuid": lambda value: str(UUID(bytes=value)),
    "float4": _shortest_float32,
}


def read_sqlite(
    path: Path,
    query: str,
    column_names: tuple[str, ...],
    value_types: Mapping[str, type],
    *,
    batch_rows: int,
    timed_out: Callable[[], bool],
) -> Iterator[Batch]:
    """The wanted columns of the result of a query that scans one table once.

    This driver cannot be interrupted between two rows, and it opens the file without our authorizer. So the caller
    must have checked the query with :func:`recserver.chefs.sql.sqlite_reader.is_single_scan`.

    Args:
        path: of the database.
        query: from :func:`with_text_check`.
        column_names: all columns of the query.
        value_types: wanted column → the type of its first values.
        batch_rows: rows a batch.
        timed_out: called between batches.

    Raises:
        FastPathUnavailable: if a column's first values have several types.
        RestartRead: if later ones do.
        TimeoutError: after a timeout.
    """
    import pyarrow.compute as pc
    from adbc_driver_sqlite import dbapi

    connecting = closing(dbapi.connect(f"file:{quote(str(path))}?mode=ro"))
    with connecting as connection, closing(connection.cursor()) as cursor:
        cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(batch_rows)})
        cursor.execute(query)
        parts = cursor.fetch_record_batch()
        if any(str(parts.schema.field(name).type) != ARROW_TYPES[kind] for name, kind in value_types.items()):
            raise FastPathUnavailable
        while True:
            try:
                part = next(parts)
            except StopIteration:
                return
            except OSError as error:
                raise (RestartRead if "Type mismatch" in str(error) else error) from None
            if timed_out():
                raise TimeoutError
            if pc.min(part.column(ALL_TEXT_COLUMN)).as_py() == 0:
                raise RestartRead
            yield Batch(column_names, {name: part.column(name) for name in value_types})


ALL_TEXT_COLUMN = "every_text_is_text"


def with_text_check(query: str, value_types: Mapping[str, type]) -> str:
    """``query`` with its wanted columns only, and a column that says whether all values of text columns are text.

    The driver silently converts numbers and binary data to text.
    """
    texts = [_quote_identifier(name) for name, kind in value_types.items() if kind is str]
    pure = " AND ".join(f"({name} IS NULL OR typeof({name}) = 'text')" for name in texts) or "1"
    return _select_columns(query, list(value_types), f", {pure} AS {ALL_TEXT_COLUMN}")


def _select_columns(query: str, names: Sequence[str], extra_columns: str = "") -> str:
    """A query for some columns of ``query``, which was checked to be one SELECT."""
    columns = ", ".join(map(_quote_identifier, names))
    return f"SELECT {columns}{extra_columns} FROM ({query.rstrip().rstrip(';')}\n) AS rows_read"  # noqa: S608 - as checked


def _quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
