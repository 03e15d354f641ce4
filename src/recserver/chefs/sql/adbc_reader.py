"""The quick way to a database: columns as Arrow hands them over, where an ADBC driver is installed.

It is taken only where every value means what it means on the ordinary way, through rows of Python objects;
everything else is :class:`NotQuick`.
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
"""PostgreSQL's types whose values Arrow holds as they are."""

CONVERTED_TYPES = frozenset({"numeric", "uuid", "float4"})
"""Those whose distinct values we turn into what the ordinary driver makes of them."""

ARROW_TYPES = {str: "string", int: "int64", float: "double"}

EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
MICROSECONDS_PER_DAY = 86_400_000_000
"""Of PostgreSQL's times, which count microseconds."""

POSTGRESQL_BATCH_BYTES = 4 * 2**20
"""Bytes that PostgreSQL's driver collects, about, before it hands over rows."""


class FastPathUnavailable(Exception):
    """This query is to be read in the ordinary way. Raised before the first row only."""


def driver_available(dialect: str) -> bool:
    """Whether there is a quick driver for a database."""
    return dialect in DRIVERS and find_spec(DRIVERS[dialect]) is not None


def read_postgresql(
    url: URL, query: str, wanted: Collection[str], statements: list[str], timed_out: Callable[[], bool]
) -> Iterator[Batch]:
    """What a query answers, only the wanted columns of it.

    Args:
        url: of the database, with our driver's parameters.
        query: one SELECT.
        statements: executed before it, in its transaction.
        out_of_time: asked between batches.

    Raises:
        NotQuick: if a wanted column is of a type that is read better in the ordinary way, or something fails
            before the first row: the ordinary driver says it better.
        StartOver: at a date that Python does not know; the ordinary way makes text of it.
        TimeoutError: if the time is over.
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
    """``url`` as libpq reads it: there, spaces stand as %20 only, and a plus is a plus."""
    plain = url.set(drivername="postgresql", query={}).render_as_string(hide_password=False)
    return f"{plain.replace(' ', '%20')}?{urlencode(url.query, doseq=True, quote_via=quote)}"


def _postgresql_type(field: pa.Field) -> str:
    kind: bytes = (field.metadata or {}).get(b"POSTGRESQL:type", b"")
    return kind.decode()


def _is_supported(field: pa.Field) -> bool:
    return _postgresql_type(field) in NATIVE_TYPES | CONVERTED_TYPES


def _has_unrepresentable_times(column: pa.Array) -> bool:
    """Whether it holds dates or times beyond the years 1 to 9999; "infinity" comes as one of them."""
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
    """A column with its values as the ordinary driver has them."""
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
    """0.1 where a number of 32 bits became 0.10000000149."""
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
    """What a query answers that goes through one table once, only the wanted columns of it.

    Nothing can stop this driver between two rows, and it opens the file without our authorizer: so whoever calls
    has looked at the plan of ``query`` under it, as :func:`recserver.chefs.sql.sqlite_reader.scans_once` does.

    Args:
        path: of the database.
        query: from :func:`guarded`.
        found: all columns of the query.
        kinds: wanted column → the type of its first values.
        batch_rows: rows at a time.
        out_of_time: asked between batches.

    Raises:
        NotQuick: if a column's first values are of several types.
        StartOver: if later ones are.
        TimeoutError: if the time is over.
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
    """``query``, its wanted columns only, and for each row whether all that should be text is.

    The driver makes text of numbers and of binary data, and says nothing.
    """
    texts = [_quote_identifier(name) for name, kind in value_types.items() if kind is str]
    pure = " AND ".join(f"({name} IS NULL OR typeof({name}) = 'text')" for name in texts) or "1"
    return _select_columns(query, list(value_types), f", {pure} AS {ALL_TEXT_COLUMN}")


def _select_columns(query: str, names: Sequence[str], extra_columns: str = "") -> str:
    """A query for some columns of what ``query``, which was checked to be one SELECT, answers."""
    columns = ", ".join(map(_quote_identifier, names))
    return f"SELECT {columns}{extra_columns} FROM ({query.rstrip().rstrip(';')}\n) AS rows_read"  # noqa: S608 - as checked


def _quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
