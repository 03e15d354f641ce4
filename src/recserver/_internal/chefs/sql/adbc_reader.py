"""Reads Arrow columns from databases, if an ADBC driver is installed. This is several times as fast.

It is used only if every value equals that of the standard driver, which yields rows of Python objects. Otherwise,
:class:`FastPathUnavailable` is raised.
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

from recserver._internal.chefs.chef_entry import object_column
from recserver._internal.chefs.protocol import Batch, Column, RestartRead
from recserver._internal.chefs.sql.error_messages import raise_timeout

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
"""PostgreSQL types whose values Arrow represents exactly."""

CONVERTED_TYPES = frozenset({"numeric", "uuid", "float4"})
"""PostgreSQL types whose distinct values are converted to those of the standard driver."""

ARROW_TYPES = {str: "string", int: "int64", float: "double"}

EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
MICROSECONDS_PER_DAY = 86_400_000_000
"""The unit of PostgreSQL timestamps is the microsecond."""

POSTGRESQL_BATCH_BYTES = 4 * 2**20
"""Approximate size of the driver's batches, in bytes."""


class FastPathUnavailable(Exception):
    """The query must be read with the standard driver. Raised only before the first row."""


def driver_available(dialect: str) -> bool:
    """Whether the ADBC driver of a database is installed."""
    return dialect in DRIVERS and find_spec(DRIVERS[dialect]) is not None


def read_postgresql(
    url: URL, query: str, requested: Collection[str], statements: list[str], timed_out: Callable[[], bool]
) -> Iterator[Batch]:
    """The requested columns of a query's result.

    Args:
        url: URL of the database, with the driver's parameters.
        query: one SELECT.
        statements: executed before the query, in its transaction.
        timed_out: called between batches.

    Raises:
        FastPathUnavailable: if a requested column has an unsupported type, or anything fails before the first row:
            the standard driver has better error messages.
        RestartRead: for a date that Python cannot represent; the standard driver loads it as text.
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
            column_names = tuple(cursor.adbc_execute_schema(query).names)
            names = [name for name in column_names if name in requested]
            selection = _select_columns(query, names or column_names[:1])
            schema = cursor.adbc_execute_schema(selection)
            if not all(_postgresql_type(field) in NATIVE_TYPES | CONVERTED_TYPES for field in schema):
                raise FastPathUnavailable
            if names:
                cursor.execute(selection)
        except dbapi.Error:
            raise FastPathUnavailable from None
        yield Batch(column_names, {name: object_column([]) for name in names})
        for part in cursor.fetch_record_batch() if names else ():
            if timed_out():
                raise TimeoutError
            if any(_has_unrepresentable_times(part.column(name)) for name in names):
                raise RestartRead
            columns = {name: _convert_values(part.column(name), schema.field(name)) for name in names}
            yield Batch(column_names, columns)


def _libpq_url(url: URL) -> str:
    """``url`` in the encoding of libpq: spaces are %20, and a plus is a plus."""
    base = url.set(drivername="postgresql", query={}).render_as_string(hide_password=False)
    return f"{base.replace(' ', '%20')}?{urlencode(url.query, doseq=True, quote_via=quote)}"


def _postgresql_type(field: pa.Field) -> str:
    name: bytes = (field.metadata or {}).get(b"POSTGRESQL:type", b"")
    return name.decode()


def _has_unrepresentable_times(column: pa.Array) -> bool:
    """Whether a column has dates or times outside the years 1 to 9999, such as "infinity"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_date32(column.type):
        numbers, per_day = column.cast(pa.int32()), 1
    elif pa.types.is_timestamp(column.type):
        numbers, per_day = column.cast(pa.int64()), MICROSECONDS_PER_DAY
    else:
        return False
    limits = pc.min_max(numbers).as_py()
    first, last = ((day.toordinal() - EPOCH_ORDINAL) * per_day for day in (date.min, date.max))
    return limits["min"] is not None and (limits["min"] < first or limits["max"] >= last + per_day)


def _convert_values(column: pa.Array, field: pa.Field) -> Column:
    """A column with the values that the standard driver yields."""
    import pyarrow as pa

    type_name = _postgresql_type(field)
    if type_name in NATIVE_TYPES:
        return column
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    encoded = storage.dictionary_encode()
    convert = _CONVERTERS[type_name]
    values = [None if value is None else convert(value) for value in encoded.dictionary.to_pylist()]
    try:
        return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(values))
    except (pa.ArrowException, TypeError):  # decimals that are too long, NaN or infinite
        return object_column([None if index is None else values[index] for index in encoded.indices.to_pylist()])


def _shortest_float32(value: float) -> float:
    """A 32-bit float by its shortest decimal form: 0.1, not 0.10000000149."""
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
    """The requested columns of the result of a query that scans one table once.

    This driver cannot be interrupted between two rows, and opens the file without the authorizer. So the caller
    must check the query with :func:`recserver._internal.chefs.sql.sqlite_reader.is_single_scan` first.

    Args:
        path: path of the database.
        query: a query from :func:`with_text_check`.
        column_names: all columns of the query.
        value_types: requested column → the type of its first values.
        batch_rows: rows per batch.
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
        try:
            for part in parts:
                if timed_out():
                    raise TimeoutError
                if pc.min(part.column(ALL_TEXT_COLUMN)).as_py() == 0:
                    raise RestartRead
                yield Batch(column_names, {name: part.column(name) for name in value_types})
        except OSError as error:
            raise (RestartRead if "Type mismatch" in str(error) else error) from None


ALL_TEXT_COLUMN = "recserver_all_text"


def with_text_check(query: str, value_types: Mapping[str, type]) -> str:
    """A query for the requested columns of ``query`` and the column :data:`ALL_TEXT_COLUMN`.

    That one is 1 in rows whose text columns hold text or NULL: the driver silently converts other values to text.
    """
    names = [_quote_identifier(name) for name, value_type in value_types.items() if value_type is str]
    check = " AND ".join(f"({name} IS NULL OR typeof({name}) = 'text')" for name in names) or "1"
    return _select_columns(query, list(value_types), f", {check} AS {ALL_TEXT_COLUMN}")


def _select_columns(query: str, names: Sequence[str], extra_columns: str = "") -> str:
    """A query for some columns of ``query``, which must be one SELECT."""
    columns = ", ".join(map(_quote_identifier, names))
    return f"SELECT {columns}{extra_columns} FROM ({query.rstrip().rstrip(';')}\n) AS rows_read"  # noqa: S608


def _quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
