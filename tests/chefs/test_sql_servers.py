"""The SQL chef with real servers: results are streamed, and connections are closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.sql import sql_chef as sql
from recserver._internal.chefs.sql.sql_chef import SqlChef
from recserver._internal.core.errors import SourceFailed
from tests.helpers.bad_sql import BAD_SQL
from tests.helpers.database_servers import PASSWORD, Server
from tests.helpers.sql_readers import Ways

pytestmark = pytest.mark.database

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]

STRANGE = "p@ss:w/o?r#d %&=é+€'\"\\${X"
ENDLESS = {
    "postgresql": "SELECT generate_series(1, 1000000000000) AS user_id, 1 AS item_id",
    "mysql": "SELECT a.seq AS user_id, b.seq AS item_id FROM seq_1_to_10000000 a, seq_1_to_10000000 b",
}
COUNTLESS = {
    "postgresql": "SELECT count(*) AS user_id FROM generate_series(1, 9000000) a, generate_series(1, 9000000) b",
    "mysql": "SELECT sum(a.seq * b.seq) AS user_id FROM seq_1_to_10000000 a, seq_1_to_10000000 b",
}


def chef(server: Server, policy: SourcePolicy, query: str, **more: Any) -> SqlChef:
    return SqlChef({"connection": server.dsn(), "query": query} | more, policy)


def config(server: Server, **more: Any) -> dict[str, Any]:
    """An entry with ``db_config``, without ``connection``."""
    known = {"type": server.kind, "host": "127.0.0.1", "port": server.port, "user": "shop", "password": PASSWORD}
    return {"connection": None, "db_config": known | {"database": "shop"} | more}


def connections(server: Server) -> list[str]:
    """The states of all connections of the user ``shop``."""
    if server.kind == "postgresql":
        query = "SELECT state FROM pg_stat_activity WHERE usename = 'shop'"
    else:
        query = "SELECT state FROM information_schema.processlist WHERE user = 'shop'"
    return [str(state) for (state,) in server.run(query, user="admin")]


def all_are_gone(server: Server) -> bool:
    """Whether all connections of ``shop`` are closed after a while: a server notices it between two rows."""
    pause = "SELECT pg_sleep(0.02)" if server.kind == "postgresql" else "SELECT SLEEP(0.02)"
    return any(not connections(server) or not server.run(pause, user="admin") for _ in range(500))


@pytest.fixture
def rows(way: Server) -> Server:
    way.run(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (user_id int, item_id int)",
        "INSERT INTO t VALUES (1, 2), (3, 4)",
    )
    return way


@pytest.mark.parametrize(
    "more", [{}, {"user": None, "username": "shop"}, {"ssl": True}, {"port": None}, {"host": None}]
)
def test_rows_are_read(
    rows: Server,
    ways: Ways,
    policy: SourcePolicy,
    table: Read,
    more: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHOP_PORT", str(rows.port))
    if "port" in more:
        entry = config(rows, port="${SHOP_PORT}", password="${SHOP_PASSWORD}")
    elif "host" in more:
        entry = {"connection": rows.dsn(password="${SHOP_PASSWORD}")}
    else:
        entry = config(rows, **more)
    one = chef(rows, policy, "SELECT user_id, item_id, '%s :x' AS note FROM t ORDER BY user_id", **entry)
    assert one.warnings() == []
    assert table(one) == (("user_id", "item_id", "note"), {"user_id": [1, 3], "item_id": [2, 4]})
    assert ways.quick_rows == 2 * ways.quickly
    assert all_are_gone(rows)


@pytest.mark.parametrize("by", ["config", "url", "variable"])
def test_passwords_can_contain_special_characters(
    way: Server, ways: Ways, policy: SourcePolicy, table: Read, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = STRANGE.replace("${X", "$X") if by == "config" else STRANGE
    written = plain.replace("'", "''").replace("\\", "\\\\" if way.kind == "mysql" else "\\")
    if way.kind == "postgresql":
        way.run("DROP ROLE IF EXISTS strange", f"CREATE ROLE strange LOGIN PASSWORD '{written}'", user="admin")
        database = "shop"
    else:
        way.run(f"CREATE OR REPLACE USER strange@'%' IDENTIFIED BY '{written}'", user="admin")
        database = "information_schema"
    monkeypatch.setenv("STRANGE", plain)
    entry = {
        "config": config(way, user="strange", password=plain, database=database),
        "url": {"connection": way.dsn("strange", quote(plain, safe=""), database)},
        "variable": {"connection": way.dsn("strange", "${STRANGE}", database)},
    }[by]
    assert table(chef(way, policy, "SELECT 1 AS user_id", **entry))[1] == {"user_id": [1]}
    assert ways.quick_rows == ways.quickly


def test_ssl_encrypts_the_connection(way: Server, ways: Ways, policy: SourcePolicy, table: Read) -> None:
    if way.kind == "postgresql":
        query = "SELECT cipher AS user_id FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    else:
        status = "information_schema.session_status WHERE variable_name = 'Ssl_cipher'"
        query = f"SELECT variable_value AS user_id FROM {status}"
    [cipher] = table(chef(way, policy, query, **config(way, ssl=True)))[1]["user_id"]
    assert cipher
    if way.kind == "postgresql":
        assert table(chef(way, policy, query, connection=way.dsn() + "?sslmode=disable"))[1]["user_id"] == [None]


def test_long_results_are_streamed_and_closing_stops_reading(
    way: Server, ways: Ways, policy: SourcePolicy
) -> None:
    long = policy.model_copy(update={"source_timeout": 600.0, "batch_rows": 4_000})
    batches = chef(way, long, ENDLESS[way.kind]).batches({"user_id", "item_id"})
    assert next(batches).n_rows == 0
    first = next(batches)
    assert 4_000 <= first.n_rows < 400_000
    assert (ways.quick_rows > 0) == ways.quickly
    assert connections(way)  # it holds the rest
    batches.close()
    assert all_are_gone(way)


def test_a_slow_reader_times_out(way: Server, policy: SourcePolicy) -> None:
    short = policy.model_copy(update={"source_timeout": 0.5, "batch_rows": 4_000})
    with pytest.raises(SourceFailed, match=r"longer than 0\.5 seconds.*RECSERVER_SOURCE_TIMEOUT"):
        for _ in chef(way, short, ENDLESS[way.kind]).batches({"user_id"}):
            pass
    assert all_are_gone(way)


def test_long_queries_are_cancelled_on_the_server(way: Server, policy: SourcePolicy, table: Read) -> None:
    short = policy.model_copy(update={"source_timeout": 0.5})
    with pytest.raises(SourceFailed) as caught:
        table(chef(way, short, COUNTLESS[way.kind]))
    assert str(caught.value) == (
        "The query took longer than 0.5 seconds: make it faster, or raise RECSERVER_SOURCE_TIMEOUT."
    )
    assert all_are_gone(way)


WORSE = [
    "SELECT 1; COMMIT; DELETE FROM t",
    "SELECT 1) AS x; COMMIT; DELETE FROM t; SELECT * FROM (SELECT 1",
    "COMMIT AND CHAIN",
    "TRUNCATE TABLE t",
    "ALTER TABLE t ADD x int",
    "CREATE TABLE z (a int)",
    "SET SESSION TRANSACTION READ WRITE",
    "SET STATEMENT max_statement_time = 0 FOR DELETE FROM t",
]
ASIDE = {"nextval", "pg_read_file", "lo_import", "set_config", "pg_sleep", "?column?", "1"}
"""Names that servers give to columns without a name: functions are called only if their column is requested."""

READS_AFTER_ALL = {
    "postgresql": {"TABLE t", "VALUES (1)", "SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */"},
    "mysql": {"VALUES (1)", "SHOW TABLES", "DESCRIBE t", "SELECT * FROM t LOCK IN SHARE MODE",
              "SELECT LOAD_FILE('/etc/passwd')"},
}  # fmt: skip
STATE = {
    "postgresql": "SELECT relname::text, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
    "UNION SELECT 'last value', last_value::text FROM s UNION SELECT t::text, 'row' FROM t "
    "UNION SELECT loid::text, 'large object' FROM pg_largeobject_metadata AS l(loid, o, a) ORDER BY 1, 2",
    "mysql": "SELECT table_name, create_time FROM information_schema.tables WHERE table_schema = 'shop' "
    "UNION SELECT 'next value', next_not_cached_value FROM s UNION SELECT user_id, item_id FROM t ORDER BY 1, 2",
}


def test_servers_deny_queries_that_the_guard_would_reject(
    rows: Server, ways: Ways, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "check_query", lambda *_: None)
    rows.run("DROP SEQUENCE IF EXISTS s", "CREATE SEQUENCE s")
    before = rows.run(STATE[rows.kind], user="admin")
    assert len(before) >= 4
    for query in [*BAD_SQL, *WORSE]:
        if ways.quickly and not query.startswith(("SELECT", "WITH", "(")):
            continue  # the fast path puts it into a subquery
        short = policy.model_copy(update={"source_timeout": 0.5 if "sleep" in query.lower() else 20.0})
        past = chef(rows, short, query).batches({"user_id", "item_id"} | ASIDE)
        if query in READS_AFTER_ALL[rows.kind] or query.startswith("((") or "\0" in query:
            assert "root:" not in str(list(past)), query
        else:
            with pytest.raises(SourceFailed, match=r"reported|does not return rows|longer than 0\.5 seconds"):
                pytest.fail(f"{query!r} was executed: {list(past)}")
        assert rows.run(STATE[rows.kind], user="admin") == before, query
    assert all_are_gone(rows)
