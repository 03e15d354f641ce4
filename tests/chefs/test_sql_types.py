"""Both paths read values of all PostgreSQL types the same; types of MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import adbc_driver_postgresql
import pytest
from adbc_driver_manager import AdbcDatabase
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.sql.sql_chef import SqlChef
from tests.helpers.database_servers import Server
from tests.helpers.sql_readers import USUAL_TIME, Ways

pytestmark = pytest.mark.database

# fmt: off
FAST_PATH_TYPES = {
    "int2": ["'1'", "'-5'", "null"],
    "int4": ["'1'", "'2147483647'", "'1577836800'"],
    "int8": ["'9007199254740993'", "'-1'", "null"],
    "text": ["'a'", "'ü😀'", "''", "' 4 '", "'NULL'", "'2020-01-01'", "'1e3'", "null"],
    "varchar(5)": ["'ab'", "'c'", "null"],
    "char(4)": ["'ab'", "'c'", "null"],
    "name": ["'x'", "'y'"],
    "numeric": ["'1.50'", "'7'", "'1e20'", "'-0.0'", "null"],
    "numeric(12,3)": ["'1.5'", "'7'", "null"],
    "float8": ["'0.1'", "'7'", "'NaN'", "'Infinity'", "'1e300'", "'-0'", "null"],
    "float4": ["'0.1'", "'7'", "'NaN'", "'-Infinity'", "'1e30'", "null"],
    "bool": ["'t'", "'f'", "null"],
    "date": ["'2020-01-01'", "'1969-12-31'", "'0001-01-01'", "'9999-12-31'", "null"],
    "timestamp": ["'2020-01-01 00:00:00.123456'", "'1969-12-31 23:59:59.5'", "'9999-12-31 23:59:59.99'", "null"],
    "timestamptz": ["'2020-01-01 00:00+02'", "'1969-12-31 23:59:59.5Z'", "null"],
    "uuid": ["'12345678-1234-1234-1234-123456789abc'", "'12345678-1234-1234-1234-123456789abd'", "null"],
    "bytea": [r"'\xff00'", "'abc'", "null"],
    "whole_number": ["'1'", "'2'"],  # a domain
}
OTHER_TYPES = {
    "json": ["""'{"a": 1}'""", "'7'", "'\"x\"'", "null"],
    "jsonb": ["""'{"a": 1}'""", "'7'", "'\"x\"'", "null"],
    "int[]": ["'{1,2}'", "'{}'", "null"],
    "text[]": ["'{a}'", "'{b,c}'"],
    "mood": ["'sad'", "'well'", "null"],  # an enum
    "interval": ["'1 day'", "'2h'"],
    "time": ["'10:00'", "'24:00'"],
    "timetz": ["'10:00+01'", "null"],
    "money": ["'1'", "'2.5'"],
    "inet": ["'127.0.0.1'", "'::1'"],
    "oid": ["'1'", "null"],
    '"char"': ["'a'", "null"],
    "xml": ["'<a/>'"],
    "bit(3)": ["'101'"],
    "int4range": ["'[1,2)'"],
    "point": ["'(1,2)'"],
}
RESTARTED = {
    "date": ["'infinity'", "'2020-01-01'", "'0044-01-01 BC'"],
    "timestamp": ["'-infinity'", "'2020-01-01'", "'12000-01-01'", "null"],
    "timestamptz": ["'infinity'", "'2020-01-01'"],
}
# fmt: on
ALL_TYPES = [
    *((kind, values, True) for kind, values in FAST_PATH_TYPES.items()),
    *((kind, ["null", "null"], True) for kind in ("text", "int8", "numeric", "float4", "uuid", "timestamp")),
    *((kind, values, False) for kind, values in OTHER_TYPES.items()),
    *((kind, values, False) for kind, values in RESTARTED.items()),
    ("numeric", ["'NaN'", "'1.5'", "'Infinity'"], True),
    ("numeric", ["'1e100'", "'1e-100'", "'1234567890123456789012345678901234567890.12345678901234567890'"], True),
]


@pytest.fixture(scope="module")
def typed(postgresql: Server) -> Server:
    postgresql.run(
        "CREATE TYPE mood AS ENUM ('sad', 'well')",
        "CREATE DOMAIN whole_number AS int CHECK (value > 0)",
        "CREATE TABLE drawn (n int, u text, i int8, r numeric, f float8, t timestamptz)",
    )
    return postgresql


class SharedDatabase(AdbcDatabase):
    """It stays open when one of its connections closes it."""

    def close(self) -> None:
        """Do nothing: it is closed with the last reference to it."""


@pytest.fixture(scope="module", autouse=True)
def one_adbc_database(typed: Server) -> Iterator[None]:
    """Share one database between all connections: ADBC reads all its types when it is opened, which is slow."""

    @cache
    def connect(uri: str, db_kwargs: None = None) -> AdbcDatabase:
        return SharedDatabase(driver=adbc_driver_postgresql._driver_path(), uri=uri)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adbc_driver_postgresql, "connect", connect)
        yield


@pytest.mark.parametrize(("kind", "values", "quickly"), ALL_TYPES)
def test_both_paths_read_postgresql_types_the_same(
    typed: Server, policy: SourcePolicy, ways: Ways, kind: str, values: list[str], quickly: bool
) -> None:
    rows = ", ".join(f"({n}, CAST({value} AS {kind}))" for n, value in enumerate(values))
    source = f"FROM (VALUES {rows}) AS v(n, v)"
    ids = {"connection": typed.dsn(), "query": f"SELECT v AS user_id, n AS item_id, v AS rating {source}"}
    ways.both(policy, ids)
    assert ways.quick_rows == len(values) * quickly
    times = (
        ids | {"query": f"SELECT n AS user_id, 1 AS item_id, n AS rating, v AS timestamp {source}"} | USUAL_TIME
    )
    ways.both(policy, times)
    assert ways.quick_rows == len(values) * quickly


def test_ids_from_postgresql_values(typed: Server, policy: SourcePolicy, ways: Ways) -> None:
    def ids(values: str) -> object:
        query = f"SELECT v AS user_id, 1 AS item_id FROM (VALUES {values}) AS v(v)"
        learned = ways.both(policy, {"connection": typed.dsn(), "query": query})
        return learned[0] if isinstance(learned, tuple) else learned

    assert ids("(7.50), (7.000), (1e20)") == ["100000000000000000000", "7", "7.5"]
    assert ids("(0.1::real), (7::real)") == ["0.1", "7"]
    assert ids("('12345678-1234-1234-1234-123456789ABC'::uuid)") == ["12345678-1234-1234-1234-123456789abc"]
    assert ids("(9007199254740993)") == ["9007199254740993"]
    assert ids("('é'::char(3))") == ["é  "]
    assert ids("(true), (false)") == {"user_id is neither text nor a number": 2}
    assert ids("('infinity'::date)") == ["infinity"]
    query = "SELECT v AS user_id, 1 AS item_id, v AS timestamp FROM (VALUES ('infinity'::timestamp)) AS v(v)"
    timed = {"connection": typed.dsn(), "query": query} | USUAL_TIME
    assert ways.both(policy, timed) == {"timestamp is no time": 1}


users = st.one_of(
    st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
)
numbers = st.one_of(
    st.none(), st.decimals(-(10**6), 10**6, places=3), st.sampled_from([Decimal("NaN"), Decimal(7)])
)
times = st.one_of(st.none(), st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))
drawn = st.lists(
    st.tuples(users, st.integers(-(2**63), 2**63 - 1), numbers, st.none() | st.floats(), times), max_size=12
)


@given(drawn)
@example([])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
def test_both_paths_read_any_rows_the_same(
    typed: Server, policy: SourcePolicy, ways: Ways, rows: list[tuple[Any, ...]]
) -> None:
    connection = typed.connect("shop")
    with connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE drawn")
        cursor.executemany(
            "INSERT INTO drawn VALUES (%s, %s, %s, %s, %s, %s)", [(n, *r) for n, r in enumerate(rows)]
        )
    faded = USUAL_TIME | {"half_life_days": 3, "repeated_pairs": "sum"}
    for columns, more in (("u AS user_id, i AS item_id, r", faded), ("r AS user_id, f AS item_id, f", {})):
        query = f"SELECT {columns} AS rating, t AS timestamp FROM drawn ORDER BY n"
        ways.both(policy, {"connection": typed.dsn(), "query": query, **more})
        assert ways.quick_rows == len(rows)


MARIADB = {
    "TINYINT(1)": ("1", 1),
    "BIGINT UNSIGNED": ("18446744073709551615", 2**64 - 1),
    "DECIMAL(10,2)": ("7.50", Decimal("7.50")),
    "FLOAT": ("0.1", 0.1),
    "DOUBLE": ("0.1", 0.1),
    "VARCHAR(10)": ("'ü😀'", "ü😀"),
    "CHAR(4)": ("'ab'", "ab"),
    "TEXT": ("''", ""),
    "DATE": ("'2020-01-02'", date(2020, 1, 2)),
    "DATETIME(6)": ("'2020-01-02 03:04:05.000006'", datetime(2020, 1, 2, 3, 4, 5, 6)),
    "ENUM('a','b')": ("'b'", "b"),
    "JSON": ("'[1]'", "[1]"),
    "UUID": ("'12345678-1234-1234-1234-123456789abc'", "12345678-1234-1234-1234-123456789abc"),
    "BLOB": ("x'ff00'", b"\xff\0"),
    "INT": ("NULL", None),
}


def test_mariadb_types(mariadb: Server, policy: SourcePolicy, table: Callable[..., Any]) -> None:
    columns = {f"c{place}": kind for place, kind in enumerate(MARIADB)}
    mariadb.run(
        "CREATE OR REPLACE TABLE typed (" + ", ".join(f"{name} {kind}" for name, kind in columns.items()) + ")",
        "INSERT INTO typed VALUES (" + ", ".join(written for written, _ in MARIADB.values()) + ")",
    )
    chef = SqlChef({"connection": mariadb.dsn(), "query": "SELECT * FROM typed"}, policy)
    found, read = table(chef, set(columns))
    assert found == tuple(columns)
    assert [read[name] for name in columns] == [[value] for _, value in MARIADB.values()]


def test_an_empty_result_has_columns(
    typed: Server, mariadb: Server, policy: SourcePolicy, table: Callable[..., Any], ways: Ways
) -> None:
    for server in (typed, mariadb):
        for ways.quickly in (True, False):
            chef = SqlChef({"connection": server.dsn(), "query": "SELECT 1 AS user_id, 'x' AS n LIMIT 0"}, policy)
            assert table(chef) == (("user_id", "n"), {"user_id": []})
