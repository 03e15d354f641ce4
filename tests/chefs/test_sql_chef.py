"""The SQL chef executes one SELECT and nothing else."""

from __future__ import annotations

import hashlib
import logging
import socket
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.sql import database_config as databases
from recserver._internal.chefs.sql import sqlalchemy_reader as engines
from recserver._internal.chefs.sql import sqlite_reader as sqlite
from recserver._internal.chefs.sql.database_config import DbConfig, database_from_config, database_from_url
from recserver._internal.chefs.sql.query_guard import check_query
from recserver._internal.chefs.sql.sql_chef import SqlChef
from recserver._internal.core.errors import InvalidInput, SourceFailed
from recserver._internal.training.ingest.id_encoding import to_list
from tests.helpers.bad_sql import BAD_SQL

CANARY = "c4n4ry-Pa55"

RUNAWAY = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r) SELECT count(*) AS user_id FROM r"
GOOD_SQL = [
    "SELECT user_id, item_id FROM t",
    "select * from t;",
    "WITH x AS (SELECT 1 AS a) SELECT * FROM x",
    "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 LIMIT 5",
    "SELECT a, CASE WHEN b > 1 THEN ';' ELSE 'DELETE FROM t' END AS c FROM t -- a comment; with DROP",
    "SELECT t.a, count(DISTINCT b) FROM t LEFT JOIN u ON t.a = u.a WHERE c LIKE '%x:y%' GROUP BY 1 HAVING 1 = 1",
    "SELECT replace(a, 'x', 'y'), row_number() OVER (PARTITION BY b ORDER BY c) FROM t",
    RUNAWAY,
]
BAD_DSNS = [
    "h2:mem:x;INIT=RUNSCRIPT FROM 'http://x/'",
    "file:/etc/passwd",
    "sqlite:///../models/x",
    "sqlite:///x?mode=rwc",
    "mysql://u:p@h/d?local_infile=1",
    "postgresql://u:p@169.254.169.254/d",
    "python+os://system",
    "",
    # further ones
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:////etc/passwd",
    "sqlite:///models/m.db",
    "sqlite:///file:x.db?uri=true",
    "sqlite://host/x.db",
    "mysql://u:p@h/d?init_command=DROP",
    "mysql://u:p@h/d?read_default_file=/etc/passwd",
    "postgresql://u:p@h/d?host=evil",
    "postgresql://u:p@h/d?options=-c%20default_transaction_read_only%3Doff",
    "postgresql://u:p@h/host=evil%20dbname=d",
    "postgresql://u:p@h:x/d",
    "postgresql://u:p@0xa9fea9fe/d",
    "postgresql://u:p@ss@h/d",
    "postgresql://u:p@[fd00:ec2::254]/d",
    "mssql://u:p@h/d?driver=/tmp/evil.so",
    "redis://h",
]

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]


@pytest.fixture
def shop(data_dir: Path) -> Path:
    """A small SQLite database in the data folder."""
    path = data_dir / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (user_id, item_id, rating)")
        rows = [("u1", 1, 4.5), ("ü", 2, None), (None, b"raw", "5")]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    connection.close()
    return path


def chef(policy: SourcePolicy, query: str = "SELECT * FROM t", **entry: Any) -> SqlChef:
    if not entry:
        entry = {"db_config": {"type": "sqlite", "database": "shop.db"}}
    return SqlChef({"type": "sql", "query": query, "rename_columns": "", **entry}, policy)


@pytest.mark.parametrize(
    "entry",
    [
        {"db_config": {"type": "SQLite", "database": "shop.db", "host": "", "port": None, "note": 1}},
        {"connection": "sqlite:///shop.db"},
        {"connection": "sqlite+aiosqlite:///shop.db?mode=ro"},
        {"connection": None, "db_config": None},
    ],
)
def test_sqlite_is_read(policy: SourcePolicy, shop: Path, table: Read, entry: dict[str, Any]) -> None:
    policy = policy.model_copy(update={"default_database": "sqlite:///shop.db"})
    sql = chef(policy, **entry)
    assert sql.warnings() == []
    found, columns = table(sql)
    assert found == ("user_id", "item_id", "rating")
    assert columns == {"user_id": ["u1", "ü", None], "item_id": [1, 2, b"raw"], "rating": [4.5, None, "5"]}


def test_the_default_database_can_be_anywhere(tmp_path: Path, shop: Path, table: Read) -> None:
    policy = SourcePolicy(data_dir=tmp_path / "elsewhere", default_database=f"sqlite:///{shop}")
    assert table(chef(policy, connection=None))[1]["user_id"] == ["u1", "ü", None]


def test_only_requested_columns_are_read_also_of_empty_results(
    policy: SourcePolicy, shop: Path, table: Read
) -> None:
    sql = chef(policy, "SELECT user_id AS u, item_id, 'x:y' AS \"100%\" FROM t WHERE 0")
    assert table(sql) == (("u", "item_id", "100%"), {"item_id": []})
    assert table(chef(policy, "SELECT 1 AS a")) == (("a",), {})


def test_a_duplicate_requested_column_is_an_error(policy: SourcePolicy, shop: Path, table: Read) -> None:
    with pytest.raises(SourceFailed, match="two columns named 'user_id'"):
        table(chef(policy, "SELECT a.*, b.* FROM t a, t b"))
    others = chef(policy, "SELECT user_id, item_id, 1 AS x, 2 AS x FROM t")
    assert table(others)[1]["user_id"]
    assert list(table(others, None)[1]) == ["user_id", "item_id"]  # a preview shows what is clear


def test_long_results_are_read_in_batches_in_order(policy: SourcePolicy, shop: Path) -> None:
    small = policy.model_copy(update={"batch_rows": 4_000})
    rows = 12_000 + 1234
    query = (
        f"WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM r LIMIT {rows}) SELECT n AS user_id FROM r"
    )
    batches = list(chef(small, query).batches({"user_id"}))
    assert [batch.n_rows for batch in batches] == [0, 4_000, 4_000, 4_000, 1234]
    users = [user for batch in batches for user in to_list(batch.columns["user_id"])]
    assert users == list(range(rows))


def test_json_and_window_functions_work(policy: SourcePolicy, shop: Path, table: Read) -> None:
    query = "SELECT j.value AS user_id, row_number() OVER () AS item_id FROM json_each('[7,8]') j"
    assert table(chef(policy, query))[1] == {"user_id": [7, 8], "item_id": [1, 2]}


@pytest.mark.parametrize("query", BAD_SQL)
def test_invalid_queries_are_rejected_in_every_dialect(query: str, caplog: pytest.LogCaptureFixture) -> None:
    for dialect in ("sqlite", "postgresql", "mysql", "mssql", "oracle", None):
        with caplog.at_level(logging.DEBUG), pytest.raises(ValueError):
            check_query(query, dialect)
    assert not caplog.records
    assert not logging.getLogger("sqlglot").filters


@pytest.mark.parametrize("query", GOOD_SQL)
def test_good_queries_pass(query: str) -> None:
    for dialect in ("sqlite", "postgresql", "mysql", None):
        check_query(query, dialect)


def test_each_dialect_has_its_own_syntax() -> None:
    check_query("SELECT a::text FROM t WHERE b ~ 'x'", "postgresql")
    check_query("SELECT `a` FROM `t`", "mysql")
    check_query("SELECT TOP 5 [a] FROM t", "mssql")
    check_query("SELECT a::text FROM t WHERE b ~ 'x'", None)


@pytest.mark.parametrize("query", BAD_SQL)
def test_invalid_queries_are_rejected_at_creation(policy: SourcePolicy, query: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        chef(policy, query)
    assert caught.value.errors[0].loc == ("query",)


@pytest.mark.parametrize(
    "query",
    [query for query in BAD_SQL if query not in ("", ";", "-- nothing", "VALUES (1)") and "/*!" not in query],
)
def test_sqlite_denies_queries_that_the_guard_would_reject(shop: Path, data_dir: Path, query: str) -> None:
    before = sorted(data_dir.rglob("*")), hashlib.sha256(shop.read_bytes()).digest()
    with pytest.raises((sqlite3.Error, sqlite3.Warning, ValueError)):
        list(sqlite.read_rows(shop, "shop.db", query, 100, lambda: False))
    assert (sorted(data_dir.rglob("*")), hashlib.sha256(shop.read_bytes()).digest()) == before


@pytest.mark.parametrize(
    "query", ["SELECT * FROM pragma_table_info('t')", "SELECT hex(randomblob(60000000)) AS user_id"]
)
def test_sqlite_limits_apply(policy: SourcePolicy, shop: Path, table: Read, query: str) -> None:
    with pytest.raises(SourceFailed, match="The database reported"):
        table(chef(policy, query))


def test_a_long_query_times_out(policy: SourcePolicy, shop: Path, table: Read) -> None:
    short = policy.model_copy(update={"source_timeout": 0.05})
    with pytest.raises(SourceFailed, match=r"longer than 0\.05 seconds.*RECSERVER_SOURCE_TIMEOUT"):
        table(chef(short, RUNAWAY))


@pytest.mark.parametrize("dsn", BAD_DSNS)
def test_invalid_connections_are_rejected_at_creation(policy: SourcePolicy, dsn: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        chef(policy, connection=dsn)
    assert caught.value.errors[0].loc == ("connection",)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"type": "h2", "database": "d"},
        {"type": "sqlite"},
        {"type": "sqlite", "database": ":memory:"},
        {"type": "sqlite", "database": "../shop.db"},
        {"type": "sqlite", "database": "/etc/passwd"},
        {"type": "sqlite", "database": "config/x.db"},
        {"type": "mysql", "database": "d", "host": "169.254.169.254"},
        {"type": "mysql", "database": "d", "host": "2852039166"},
        {"type": "mysql", "database": "d", "host": "a,b"},
        {"type": "mysql", "database": "d", "host": "u@h"},
        {"type": "postgresql", "database": "host=evil", "host": "h"},
        {"type": "postgresql", "database": "postgresql://evil/d", "host": "h"},
        {"type": "postgresql", "database": "d", "port": 0},
        {"type": "postgresql", "database": "d", "port": "x"},
        {"type": "postgresql", "database": "d", "user": "a", "username": "b"},
        {"type": "postgresql", "database": "d", "ssl": "maybe"},
        {"type": "postgresql", "database": ["d"]},
        "sqlite:///x.db",
    ],
)
def test_invalid_database_configs_are_rejected_at_creation(policy: SourcePolicy, config: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        chef(policy, db_config=config)
    assert caught.value.errors[0].loc[0] == "db_config"


def test_two_databases_are_rejected(policy: SourcePolicy) -> None:
    config = {"type": "sqlite", "database": "shop.db"}
    with pytest.raises(InvalidInput, match="not both"):
        chef(policy, db_config=config, connection="sqlite:///shop.db")


def test_a_missing_database_is_a_warning_then_a_failure(policy: SourcePolicy, table: Read) -> None:
    for entry, name in (({}, "shop.db"), ({"connection": None}, "interactions.db")):
        missing = chef(policy, **entry)
        assert f"There is no file '{name}'" in missing.warnings()[0]
        with pytest.raises(SourceFailed, match="There is no file"):
            table(missing)
    assert not (policy.data_dir / "shop.db").exists()


def test_an_invalid_default_database_is_a_warning_then_a_failure(policy: SourcePolicy, table: Read) -> None:
    wrong = chef(policy.model_copy(update={"default_database": f"nosuch://u:{CANARY}@h/d"}), connection=None)
    assert CANARY not in wrong.warnings()[0]
    with pytest.raises(SourceFailed, match="database URL"):
        table(wrong)


@pytest.mark.parametrize("query", ["SELECT nosuch FROM t", "SELECT * FROM nosuch"])
def test_errors_of_the_database_are_reported(policy: SourcePolicy, shop: Path, table: Read, query: str) -> None:
    with pytest.raises(SourceFailed, match=r"The database reported: no such .*: nosuch"):
        table(chef(policy, query))


def test_a_file_that_is_not_a_database_is_reported(policy: SourcePolicy, table: Read) -> None:
    (policy.data_dir / "shop.db").write_text("user_id,item_id\n" * 100)
    with pytest.raises(SourceFailed, match="file is not a database"):
        table(chef(policy))


def test_variables_are_expanded_and_the_result_is_validated(
    policy: SourcePolicy, shop: Path, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = chef(policy, "SELECT ${COLUMNS} FROM t", connection="${DSN}")
    for name in ("DSN", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    assert late.warnings() == [
        "The environment variable COLUMNS is not set.",
        "The environment variable DSN is not set.",
    ]
    monkeypatch.setenv("DSN", "sqlite:///shop.db")
    monkeypatch.setenv("COLUMNS", "user_id")
    assert table(late)[1] == {"user_id": ["u1", "ü", None]}
    monkeypatch.setenv("COLUMNS", "1; DROP TABLE t; SELECT *")
    with pytest.raises(SourceFailed, match="only reads"):
        table(late)
    monkeypatch.setenv("DSN", f"sqlite:////etc/{CANARY}")
    with pytest.raises(SourceFailed, match="cannot be read"):
        table(late)


def test_entries_with_references_are_validated(policy: SourcePolicy) -> None:
    chef(policy, connection="postgresql://${USER}:${PW}@${HOST}:${PORT}/${DB}")
    config = {"type": "mysql", "host": "${H}", "port": "${P}", "password": "${PW}", "database": "${D}"}
    chef(policy, db_config=config)
    with pytest.raises(InvalidInput):
        chef(policy, connection="postgresql://u:${PW}@169.254.169.254/d")
    with pytest.raises(InvalidInput):
        chef(policy, connection="nosuch://u:${PW}@h/d")


SPECIAL = "p@ss:w/o?r#d %&=é"


def test_special_characters_in_passwords_survive() -> None:
    config = {"type": "postgresql", "host": "h", "user": "a@b", "password": SPECIAL, "database": "d"}
    url = database_from_config(DbConfig.model_validate(config)).url
    assert url is not None
    assert (url.username, url.password, url.host, url.port) == ("a@b", SPECIAL, "h", None)
    assert url.drivername == "postgresql+psycopg"
    again = database_from_url(url.render_as_string(hide_password=False)).url
    assert again is not None
    assert again.password == SPECIAL
    assert SPECIAL not in str(url)
    assert SPECIAL not in repr(database_from_config(DbConfig.model_validate(config)))
    assert SPECIAL not in repr(DbConfig.model_validate(config))


@pytest.mark.parametrize(
    ("dsn", "driver"),
    [
        ("postgresql://h/d", "postgresql+psycopg"),
        ("postgres://h/d", "postgresql+psycopg"),
        ("postgresql+asyncpg://h/d?sslmode=require", "postgresql+psycopg"),
        ("mysql://h/d?charset=utf8mb4", "mysql+pymysql"),
        ("mariadb+mariadbconnector://h/d", "mysql+pymysql"),
        ("mssql://h/d?driver=ODBC+Driver+18&Encrypt=yes", "mssql+pyodbc"),
        ("oracle://h/?service_name=s", "oracle+oracledb"),
    ],
)
def test_drivers_in_urls_are_replaced(dsn: str, driver: str) -> None:
    url = database_from_url(dsn).url
    assert url is not None
    assert url.drivername == driver


def test_server_sessions_are_read_only_and_limited_in_time() -> None:
    postgres = database_from_config(DbConfig(type="postgresql", database="d", ssl=True))
    assert postgres.url is not None
    assert postgres.url.query == {"sslmode": "require"}
    read_only, limit, notice = engines.setup_statements("postgresql", 1.5)
    assert read_only == "SET TRANSACTION READ ONLY"
    assert limit == "SET LOCAL statement_timeout = 1500"
    assert "client_connection_check_interval" in notice
    assert engines.connect_args(postgres, 5)["connect_timeout"] == 10
    mysql = database_from_config(DbConfig(type="mysql", database="d", ssl=True, port="3307"))
    assert engines.connect_args(mysql, 5) == {
        "local_infile": False,
        "connect_timeout": 10,
        "read_timeout": 15,
        "ssl": {"check_hostname": False},
    }
    assert engines.setup_statements("mysql", 2) == [
        "SET SESSION max_execution_time = 2000",
        "SET SESSION TRANSACTION READ ONLY",
        "START TRANSACTION READ ONLY",
    ]
    assert engines.setup_statements("mysql", 2, mariadb=True)[0] == "SET SESSION max_statement_time = 2.000"
    plain = database_from_config(DbConfig(type="mysql", database="d"))
    assert "ssl" not in engines.connect_args(plain, 5)


@pytest.mark.parametrize(("kind", "extra"), [("postgresql", "postgres"), ("mysql", "mysql")])
def test_a_missing_driver_is_reported_with_its_extra(
    policy: SourcePolicy, table: Read, monkeypatch: pytest.MonkeyPatch, kind: str, extra: str
) -> None:
    monkeypatch.setattr(databases, "find_spec", lambda _: None)
    sql = chef(policy, db_config={"type": kind, "host": "127.0.0.1", "database": "d", "password": CANARY})
    assert f'pip install "recserver[{extra}]"' in sql.warnings()[0]
    with pytest.raises(SourceFailed, match="pip install") as caught:
        table(sql)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_an_unreachable_server_is_reported_without_the_password(
    policy: SourcePolicy, table: Read, kind: str
) -> None:
    if not find_spec(databases.DRIVERS[kind]):
        pytest.skip(f"the driver {databases.DRIVERS[kind]} is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        sql = chef(policy, connection=f"{kind}://u:{CANARY}@127.0.0.1:{port}/d")
        with pytest.raises(SourceFailed, match=r"The database cannot be reached: .*efused") as caught:
            table(sql)
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_host_that_resolves_to_a_forbidden_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(2, 1, 6, "", ("93.184.216.34", 5432)), (2, 1, 6, "", ("169.254.169.254", 5432))]

    monkeypatch.setattr(databases.socket, "getaddrinfo", lookup)
    url = database_from_url("postgresql://u:p@db.example/d").url
    assert url is not None
    with pytest.raises(SourceFailed, match="metadata"):
        databases.check_resolved_address(url)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"could not connect to postgresql://u:{CANARY}@h/d\nmore {CANARY}"),
        RuntimeError(1045, f"Access denied using {CANARY} " + "x" * 1000),
        RuntimeError(),
        RuntimeError(Decimal(1)),
    ],
)
def test_secrets_are_removed_from_driver_errors(
    policy: SourcePolicy, shop: Path, table: Read, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(sqlite, "read_rows", fail)
    config = {"type": "sqlite", "database": "shop.db", "password": CANARY}
    with pytest.raises(SourceFailed, match="The database reported") as caught:
        table(chef(policy, db_config=config))
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
