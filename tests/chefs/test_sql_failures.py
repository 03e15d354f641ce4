"""Messages for errors of database servers have one line with a remedy, and no secrets."""

from __future__ import annotations

import re
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.sql.error_messages import error_message, source_failure
from recserver._internal.chefs.sql.sql_chef import SqlChef
from recserver._internal.core.errors import InvalidInput, SourceFailed
from tests.helpers.cut_off import cut_off_in
from tests.helpers.database_servers import PASSWORD, Server
from tests.helpers.sql_readers import Ways

pytestmark = [pytest.mark.database, pytest.mark.process]

SECRET = "wr0ng c4n4ry@+%/é"
FORMS = (SECRET, quote(SECRET), quote(SECRET, safe=""), quote(SECRET, safe=" +"), quote_plus(SECRET), PASSWORD)


def failure(policy: SourcePolicy, entry: dict[str, Any]) -> str:
    """The error message of a read."""
    with pytest.raises((SourceFailed, InvalidInput)) as caught:
        list(SqlChef(entry, policy).batches({"user_id", "item_id"}))
    sentence = str(caught.value)
    assert not any(form in sentence for form in FORMS)
    assert not any(mark in sentence for mark in ("\n", "[libpq]", "PGRES", "(1", "FATAL", "INTERNAL"))
    assert sentence.endswith(".")
    assert len(sentence) < 350
    return sentence


LOGIN = {
    "postgresql": 'The database reported: password authentication failed for user "{}". ',
    "mysql": "The database reported: Access denied for user '{}'@'127.0.0.1' (using password: YES). ",
}


@pytest.mark.parametrize("by", ["url", "config", "variable"])
def test_wrong_passwords(way: Server, policy: SourcePolicy, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG", SECRET)
    database = {"type": way.kind, "host": "127.0.0.1", "port": way.port, "user": "shop", "database": "shop"}
    entry = {
        "url": {"connection": way.dsn(password=quote(SECRET, safe=""))},
        "config": {"db_config": database | {"password": SECRET}},
        "variable": {"connection": way.dsn(password="${WRONG}")},
    }[by]
    said = failure(policy, entry | {"query": "SELECT 1 AS user_id"})
    assert said == LOGIN[way.kind].format("shop") + "Correct the user and the password."


def test_unknown_users_and_databases(way: Server, policy: SourcePolicy) -> None:
    query = {"query": "SELECT 1 AS user_id"}
    said = failure(policy, query | {"connection": way.dsn("nobody", quote(SECRET))})
    assert said == LOGIN[way.kind].format("nobody") + "Correct the user and the password."
    for user in ("shop", "admin"):
        said = failure(policy, query | {"connection": way.dsn(user, database="nosuch")})
        assert "nosuch" in said
        assert said.endswith(". Correct the name of the database.")


MESSAGES = {
    "SELECT user_id FROM nosuch": ('relation "nosuch" does not exist', "Table 'shop.nosuch' doesn't exist"),
    "SELECT nosuch AS user_id FROM t": (
        'column "nosuch" does not exist',
        "Unknown column 'nosuch' in 'SELECT'|Unknown column 'nosuch' in 'field list'",
    ),
    "SELECT nosuch(1) AS user_id": (
        r"function nosuch\(integer\) does not exist",
        "FUNCTION .*nosuch does not exist",
    ),
}


@pytest.mark.parametrize("query", MESSAGES)
def test_errors_in_queries(way: Server, policy: SourcePolicy, query: str) -> None:
    way.run("DROP TABLE IF EXISTS t", "CREATE TABLE t (user_id int)")
    said = failure(policy, {"connection": way.dsn(), "query": query})
    words = dict(zip(("postgresql", "mysql"), MESSAGES[query], strict=True))[way.kind]
    assert re.fullmatch(rf"The database reported: ({words})\. Correct the query\.", said), said


def test_errors_after_the_first_rows(postgresql: Server, policy: SourcePolicy, ways: Ways) -> None:
    query = "SELECT 1 / (300000 - generate_series(1, 400000)) AS user_id"
    for ways.quickly in (True, False):
        said = failure(policy, {"connection": postgresql.dsn(), "query": query})
        assert said == "The database reported: division by zero. Check the query and the connection."


def test_tables_without_privileges_are_reported(way: Server, policy: SourcePolicy) -> None:
    secret_table = {"postgresql": "pg_authid", "mysql": "mysql.global_priv"}[way.kind]
    said = failure(policy, {"connection": way.dsn(), "query": f"SELECT 1 AS user_id FROM {secret_table}"})
    assert "denied" in said
    assert said.endswith(". Grant the database user read access to the tables of the query.")


@pytest.mark.parametrize("query", ["DELETE FROM t", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE t"])
def test_other_statements_are_not_sent_to_the_server(
    way: Server, policy: SourcePolicy, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "only reads" in failure(policy, {"connection": way.dsn(), "query": query})
    monkeypatch.setenv("LATE", query)
    assert "only reads" in failure(policy, {"connection": way.dsn(), "query": "${LATE}"})


def test_unreachable_servers(way: Server, policy: SourcePolicy) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            dsn = f"{way.kind}://shop:{quote(SECRET, safe='')}@{host}:{port}/shop"
            said = failure(policy, {"connection": dsn, "query": "SELECT 1 AS user_id"})
            assert said.startswith("The database cannot be reached: ")
            assert "Connection refused" in said
            assert said.endswith(". Check its host and port, and that it is running.")
    dsn = f"{way.kind}://shop:{quote(SECRET, safe='')}@nosuch.invalid/shop"
    said = failure(policy, {"connection": dsn, "query": "SELECT 1 AS user_id"})
    assert said == "The database's host 'nosuch.invalid' cannot be found: correct its name."


ENDLESS = {
    "postgresql": "SELECT generate_series(1, 1000000000000) AS user_id",
    "mysql": "SELECT a.seq AS user_id FROM seq_1_to_10000000 a, seq_1_to_10000000 b",
}
END = {
    "postgresql": "SELECT {}(pid) FROM pg_stat_activity WHERE usename = 'shop'",
    "mysql": "SELECT CONCAT('{}', id) FROM information_schema.processlist WHERE user = 'shop'",
}


def interrupted(way: Server, policy: SourcePolicy, how: dict[str, str]) -> str:
    """The message of a read during which all queries of ``shop`` are interrupted."""
    long = policy.model_copy(update={"source_timeout": 600.0, "batch_rows": 2_000})
    batches = SqlChef({"connection": way.dsn(), "query": ENDLESS[way.kind]}, long).batches({"user_id"})
    assert next(batches).n_rows == 0
    assert next(batches).n_rows
    done = way.run(END[way.kind].format(how[way.kind]), user="admin")
    assert done
    if way.kind == "mysql":
        way.run(*(statement for (statement,) in done), user="admin")
    with pytest.raises(SourceFailed) as caught:
        for _ in batches:
            pass
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("error::UserWarning")  # of pymysql, and of destructors
def test_a_lost_connection_is_reported(way: Server, policy: SourcePolicy) -> None:
    said = interrupted(way, policy, {"postgresql": "pg_terminate_backend", "mysql": "KILL "})
    words = {  # with TLS, the last message of the server may arrive too late
        "postgresql": "terminating connection due to administrator command|SSL error: unexpected eof.*",
        "mysql": "Lost connection to MySQL server during query",
    }[way.kind]
    remedy = "The connection was lost: train again, and if it happens again, contact the database administrator"
    assert re.fullmatch(rf"The database reported: ({words})\. {remedy}\.", said), said


@pytest.mark.filterwarnings("error::UserWarning")  # of pymysql, and of destructors
def test_a_cancelled_query_is_reported(way: Server, ways: Ways, policy: SourcePolicy) -> None:
    if way.kind == "postgresql" and not ways.quickly:
        return  # no query is running between two fetches of a cursor
    said = interrupted(way, policy, {"postgresql": "pg_cancel_backend", "mysql": "KILL QUERY "})
    assert said.startswith("The query was stopped on the database server: ")


def test_the_standard_driver_is_used_if_the_fast_path_fails(
    postgresql: Server,
    policy: SourcePolicy,
    ways: Ways,
    table: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "recserver._internal.chefs.sql.adbc_reader._libpq_url", lambda _: "postgresql://nobody@127.0.0.1:1/"
    )
    chef = SqlChef({"connection": postgresql.dsn(), "query": "SELECT 7 AS user_id"}, policy)
    assert table(chef)[1] == {"user_id": [7]}
    assert ways.quick_rows == 0


class DriverError(Exception):
    """An error of a driver."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DriverError("consuming input failed: SSL SYSCALL error: EOF detected"), "ed: SSL SYSCALL .* was lost"),
        (
            OSError("PQgetCopyData() failed: SSL error: unexpected eof while reading"),
            "ed: SSL error: .* was lost",
        ),
        (DriverError("connection failed: SSL error: certificate verify failed"), "Correct the TLS parameters"),
        (TimeoutError(), "The query took longer than 5 seconds"),
        (
            DriverError(3024, "Query execution was interrupted, maximum statement execution time exceeded"),
            "took longer",
        ),
        (DriverError(1317, "Query execution was interrupted"), "was stopped on the database server"),
        (DriverError(1045, f"Access denied for {SECRET}"), r"Access denied for \*{8}\. Correct the user"),
        (DriverError(f"no {quote(SECRET, safe='')} or {quote_plus(SECRET)}"), r"no \*{8} or \*{8}\. Check"),
        (
            OSError("[libpq] Execution error [PGRES_FATAL_ERROR]: FEHLER:  Division durch Null\n"),
            ": Division durch",
        ),
        (
            DriverError("INTERNAL: [libpq] Failed to begin: ERROR:  no such thing"),
            "reported: no such thing. Check",
        ),
        (
            DriverError("connection failed: connection timeout expired\nand more"),
            "reached: connection timeout expired",
        ),
        (
            DriverError(
                'connection to server at "::1", port 1 failed: FATAL:  the database system is starting up'
            ),
            ": the",
        ),
        (
            DriverError("connection failed: server does not support SSL, but SSL was required"),
            "Correct the TLS parameters",
        ),
        (
            RuntimeError("'cryptography' package is required for sha256_password"),
            "Set ssl: true in db_config, or: pip",
        ),
        (DriverError(), "reported: DriverError. Check"),
    ],
)
def test_messages_for_driver_errors(error: Exception, said: str) -> None:
    sentence = error_message(error, [SECRET], 5)
    assert re.search(said, sentence), sentence


@pytest.mark.parametrize(
    ("message", "transient"),
    [
        ("connection to server at 127.0.0.1 failed: Connection refused", True),
        ("server closed the connection unexpectedly", True),
        ("canceling statement due to user request", True),
        ('relation "nosuch" does not exist', False),
        ('password authentication failed for user "shop"', False),
        ("something else", False),
    ],
)
def test_transient_errors_are_marked(message: str, transient: bool) -> None:
    assert source_failure(RuntimeError(message), [], 60).transient is transient


def test_a_timeout_is_not_transient() -> None:
    assert source_failure(TimeoutError(), [], 60).transient is False


def test_a_file_with_a_hot_journal_is_reported(policy: SourcePolicy) -> None:
    file = policy.data_dir / "cut.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE visits (user_id, item_id)")
        rows = [(f"user {number}", "tea") for number in range(20_000)]
        connection.executemany("INSERT INTO visits VALUES (?, ?)", rows)
    cut_off_in(file)
    chef = SqlChef({"query": "SELECT * FROM visits", "connection": "sqlite:///cut.db"}, policy)
    with pytest.raises(SourceFailed, match="open it once with one that may write, which repairs it"):
        list(chef.batches({"user_id", "item_id"}))


def test_a_readonly_file_has_another_message_in_exports() -> None:
    error = sqlite3.OperationalError("attempt to write a readonly database")
    assert error_message(error, (), 5, writing=True) == (
        "The database reported: attempt to write a readonly database. "
        "Give recserver write access to the file and its folder, or use another file."
    )
