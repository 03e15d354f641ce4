"""The fast path and the standard driver for SQLite read the same values, and both are read-only."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recserver._internal.chefs.protocol import RestartRead
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.sql import row_batches as sql_rows
from recserver._internal.chefs.sql import sql_chef as sql
from recserver._internal.chefs.sql.sql_chef import SqlChef
from recserver._internal.core.errors import SourceFailed
from tests.helpers.bad_sql import BAD_SQL
from tests.helpers.sql_readers import USUAL_TIME, Ways, learned

FEW = sql_rows.FAST_PATH_MIN_ROWS
MANY = 3 * FEW
ENTRY = {"connection": "sqlite:///shop.db", "query": "SELECT user_id, item_id, rating FROM t"}


def fill(policy: SourcePolicy, rows: Iterable[tuple[Any, Any, Any]], kinds: tuple[str, str, str]) -> None:
    """Create the table ``t`` with these rows and column types."""
    with sqlite3.connect(policy.data_dir / "shop.db") as database:
        columns = ", ".join(
            f"{name} {kind}" for name, kind in zip(("user_id", "item_id", "rating"), kinds, strict=True)
        )
        database.executescript(f"DROP TABLE IF EXISTS t; CREATE TABLE t ({columns});")
        database.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    database.close()


def plain(n: int) -> tuple[Any, Any, Any]:
    """A row with values of the usual types."""
    return f"u{n % 700}", n % 900, n % 10 / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "odd", "quick_rows"),
    [
        (("TEXT", "INTEGER", "REAL"), None, MANY),
        (("TEXT", "INTEGER", "REAL"), (None, None, None), MANY),
        (("TEXT", "INTEGER", "REAL"), ("", -(2**63), float("inf")), MANY),
        (("", "", ""), ("ü\U0001f600", 2**63 - 1, -0.5), MANY),
        (("", "", ""), (7, 1, 1.0), "some"),  # a number in a text column
        (("", "", ""), ("u1", "seven", 1.0), "some"),  # text in an integer column
        (("", "", ""), ("u1", 7.5, 1.0), "some"),  # a float in an integer column
        (("", "", ""), ("u1", 7, 1), MANY),  # an integer in a float column: 1 is 1.0
        (("", "", ""), ("u1", 7, "good"), "some"),
        (("TEXT", "INTEGER", "REAL"), (b"u1", 7, 1.0), "some"),
        (("TEXT", "INTEGER", "REAL"), (b"\xff\0", b"7", b"1"), "some"),
    ],
)
def test_unusual_values_after_many_rows_are_read_the_same(
    policy: SourcePolicy, ways: Ways, kinds: tuple[str, str, str], odd: Any, quick_rows: object
) -> None:
    rows = [plain(n) for n in range(MANY)]
    if odd is not None:
        rows[2 * FEW + 7] = odd
    fill(policy, rows, kinds)
    small = policy.model_copy(update={"batch_rows": 1_000})
    assert isinstance(ways.both(small, ENTRY), tuple)
    if quick_rows == "some":  # it was started and abandoned
        assert 0 < ways.quick_rows < MANY
    else:
        assert ways.quick_rows == quick_rows


@pytest.mark.parametrize("odd", [(7, 1, 1.0), (b"u1", 1, 1.0), ("u1", None, 1.0)])
def test_unusual_values_in_the_first_rows_are_read_the_same(policy: SourcePolicy, ways: Ways, odd: Any) -> None:
    fill(policy, [odd, *map(plain, range(MANY))], ("", "", ""))
    ways.both(policy, ENTRY)
    assert ways.quick_rows == (MANY + 1 if odd[1] is None else 0)


def test_short_results_and_previews_do_not_use_the_fast_path(policy: SourcePolicy, ways: Ways) -> None:
    fill(policy, map(plain, range(FEW)), ("TEXT", "INTEGER", "REAL"))
    ways.both(policy, ENTRY)
    assert ways.quick_rows == 0
    fill(policy, map(plain, range(MANY)), ("TEXT", "INTEGER", "REAL"))
    assert sum(batch.n_rows for batch in SqlChef(ENTRY, policy).batches(None)) == MANY
    assert ways.quick_rows == 0


value = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text("ab1\0é", max_size=3),
    st.sampled_from(["1", "1.0", "2020-01-01", b"", b"a", b"\xff"]),
)  # fmt: skip
kind = st.sampled_from(["", "TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"])


@pytest.mark.slow
@given(
    st.tuples(kind, kind, kind),
    st.tuples(*[st.sampled_from(["a", 1, 1.5])] * 3),
    st.lists(st.tuples(value, value, value), max_size=12),
    st.integers(1, 5),
)
@example(("", "", ""), ("a", 1, 1.5), [], 2)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_values_are_read_the_same_by_both_paths(
    policy: SourcePolicy, ways: Ways, kinds: Any, usual: Any, rows: list[tuple[Any, Any, Any]], size: int
) -> None:
    fill(policy, [usual, usual, *rows], kinds)
    small = policy.model_copy(update={"batch_rows": size})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql_rows, "FAST_PATH_MIN_ROWS", 1)
        patch.setattr(sql, "FETCH_ROWS", 1)
        ways.both(small, ENTRY)
        timed = "SELECT user_id, rating AS item_id, item_id AS timestamp FROM t"
        ways.both(small, ENTRY | {"query": timed} | USUAL_TIME)


def test_a_read_is_restarted_only_once(policy: SourcePolicy, ways: Ways) -> None:
    rows = [*map(plain, range(MANY)), (b"u1", 1, 1.0)]
    fill(policy, rows, ("", "", ""))
    chef = SqlChef(ENTRY, policy.model_copy(update={"batch_rows": 1_000}))
    with pytest.raises(RestartRead):
        list(chef.batches({"user_id", "item_id"}))
    ways.quick_rows = 0
    assert sum(batch.n_rows for batch in chef.batches({"user_id", "item_id"})) == MANY + 1
    assert ways.quick_rows == 0


SINGLE_SCANS = [
    "SELECT user_id, item_id FROM t",
    "SELECT user_id, item_id, rating FROM t WHERE rating > 1 AND item_id <> 3;",
    "SELECT upper(user_id) AS user_id, item_id + 1 AS item_id FROM t -- all of them",
    'SELECT user_id, item_id, rating AS "odd ""name""" FROM t',
    "SELECT user_id, item_id FROM seen",
]
NOT_SINGLE_SCANS = [
    "SELECT a.user_id, b.item_id FROM t a JOIN t b ON a.rating = b.rating",
    "SELECT user_id, item_id, rating FROM t ORDER BY rowid DESC",
    "SELECT user_id, item_id, count(*) AS rating FROM t GROUP BY 1, 2 HAVING count(*) > 0",
    "SELECT user_id, item_id, rating FROM t ORDER BY -rating",
    "SELECT DISTINCT user_id, item_id, rating, rowid FROM t",
    "SELECT user_id, item_id FROM t UNION ALL SELECT user_id, item_id FROM t",
    "SELECT user_id, item_id, rank() OVER (ORDER BY rating) AS rating FROM t",
    "WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r LIMIT 9000) "
    "SELECT n AS user_id, 1 AS item_id FROM r",
    "SELECT user_id, item_id, (SELECT max(rating) FROM t) AS rating FROM t",
    "SELECT user_id, item_id FROM counted",
    "SELECT value AS user_id, 1 AS item_id FROM t, json_each('[1,2]')",
]


@pytest.mark.slow
@pytest.mark.parametrize("query", [*SINGLE_SCANS, *NOT_SINGLE_SCANS])
def test_the_fast_path_is_used_for_single_scans_only(policy: SourcePolicy, ways: Ways, query: str) -> None:
    fill(policy, ((f"u{n % 50}", n % 40, n / 2) for n in range(2 * FEW)), ("TEXT", "INTEGER", "REAL"))
    with sqlite3.connect(policy.data_dir / "shop.db") as database:
        database.execute("CREATE VIEW seen AS SELECT user_id, item_id FROM t WHERE item_id > 5")
        database.execute("CREATE VIEW counted AS SELECT user_id, item_id, count(*) AS n FROM t GROUP BY 1, 2")
    database.close()
    assert isinstance(ways.both(policy, ENTRY | {"query": query}), tuple)
    assert (ways.quick_rows > FEW) == (query in SINGLE_SCANS)


def test_the_fast_path_denies_writing(policy: SourcePolicy, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(policy, map(plain, range(MANY)), ("TEXT", "INTEGER", "REAL"))
    file = policy.data_dir / "shop.db"
    before = hashlib.sha256(file.read_bytes()).digest(), sorted(Path(policy.data_dir).rglob("*"))
    monkeypatch.setattr(sql, "check_query", lambda *_: None)
    calls = [
        f"SELECT user_id, item_id, {call} AS rating FROM t"
        for call in ("load_extension('x')", "readfile('/etc/passwd')", "writefile('x', 'y')", "edit('x')")
    ]
    for query in [
        *BAD_SQL,
        *calls,
        "SELECT * FROM (SELECT * FROM t); DELETE FROM t",
        "SELECT * FROM t) ; DELETE FROM t --",
    ]:
        assert "The database reported" in str(learned(policy, ENTRY | {"query": query})) or query in HARMLESS, (
            query
        )
        assert ways.quick_rows == 0
        assert (hashlib.sha256(file.read_bytes()).digest(), sorted(Path(policy.data_dir).rglob("*"))) == before, (
            query
        )


HARMLESS = {
    "",
    ";",
    "-- nothing",
    "VALUES (1)",
    "/*!50000 DELETE FROM t */",
    "SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */",
}


def test_the_fast_path_times_out(policy: SourcePolicy, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(policy, map(plain, range(MANY)), ("TEXT", "INTEGER", "REAL"))
    batches = SqlChef(ENTRY, policy.model_copy(update={"batch_rows": 100})).batches({"user_id", "item_id"})
    assert next(batches).n_rows
    assert ways.quick_rows == 100
    monkeypatch.setattr("recserver._internal.core.clock.SystemClock.monotonic", lambda _: 1e12)
    with pytest.raises(SourceFailed, match="longer than 20 seconds"):
        next(batches)
