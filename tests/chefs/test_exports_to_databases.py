"""Exports to tables of SQLite, PostgreSQL and MariaDB are atomic."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import ExportFailed, InvalidInput
from recserver._internal.recommend.query import Query
from recserver._internal.training.export.export_job import ExportJob, ExportRow, TableTarget
from recserver._internal.training.export.export_worker import export
from recserver._internal.training.export.sqlite_export import open_sqlite_target
from recserver._internal.training.export.table_export import open_table_target
from recserver._internal.training.export.table_target import locate_table
from tests.helpers.database_servers import PASSWORD, Server
from tests.helpers.exported import ODD_IDS, Row, wanted, write_crowd

pytestmark = pytest.mark.database

SIX = (
    "model_id VARCHAR(99), model_version INT, user_id VARCHAR(99), {rank} INT, item_id VARCHAR(99), "
    "score DOUBLE PRECISION"
)


@dataclass(frozen=True, slots=True)
class Shop:
    """A database, with access to it that does not use recserver."""

    kind: str
    url: str
    policy: SourcePolicy
    server: Server | None

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        if self.server is not None:
            return self.server.run(*statements)
        with closing(sqlite3.connect(self.policy.data_dir / "shop.db", isolation_level=None)) as connection:
            return [[*connection.execute(one)] for one in statements][-1]

    def target(self, table: str = "top", **other: Any) -> TableTarget:
        return TableTarget(**{"table": table, "database": self.url, "policy": self.policy, **other})

    def rows(self, model_id: str, table: str = "top") -> list[Row]:
        rank = "`rank`" if self.kind == "mysql" else "rank"
        of = f"FROM {table} WHERE model_id = '{model_id}'"
        return [(*row,) for row in self.run(f"SELECT user_id, {rank}, item_id, score {of}")]

    @property
    def columns(self) -> str:
        return SIX.format(rank="`rank`" if self.kind == "mysql" else "rank")


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def shop(request: pytest.FixtureRequest, policy: SourcePolicy) -> Iterator[Shop]:
    if request.param == "sqlite":
        yield Shop("sqlite", "sqlite:///shop.db", policy, None)
        return
    server: Server = request.getfixturevalue({"mysql": "mariadb"}.get(request.param, request.param))
    yield Shop(server.kind, server.dsn(), policy, server)
    server.run("DROP TABLE IF EXISTS top")


def crowd(folder: Path, name: str = "m", version: int = 1) -> Path:
    return write_crowd(folder / f"{name}.pkl", ["ann", "bob", "cem"], ["tea", "scone", "soup"], version=version)


def exported(model: Path, target: TableTarget, **wishes: Any) -> int:
    job = ExportJob(model_id=model.stem, model=model, options=wishes, target=target)
    return export(ExportJob.model_validate_json(job.model_dump_json()), lambda _: None).rows


def in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row[0].encode(), row[1]))


def test_a_table_is_created_and_replaced(shop: Shop, tmp_path: Path) -> None:
    first, other = crowd(tmp_path), crowd(tmp_path, "other")
    assert exported(first, shop.target()) == exported(other, shop.target(), n=1) * 3 == 9
    assert in_order(shop.rows("m")) == wanted(first)
    second = crowd(tmp_path, version=2)
    exported(second, shop.target(), n=2)
    assert in_order(shop.rows("m")) == wanted(second, Query(n=2)) and len(shop.rows("m")) == 6
    assert {*shop.run("SELECT DISTINCT model_id, model_version FROM top")} == {("m", 2), ("other", 1)}
    assert in_order(shop.rows("other")) == wanted(other, Query(n=1))


def test_similar_ids_stay_different(shop: Shop, tmp_path: Path) -> None:
    longest = ["x" * 255 + "€", "x" * 255 + "y"]
    model = write_crowd(tmp_path / "odd.pkl", [*ODD_IDS, *longest], [*ODD_IDS, *longest])
    assert exported(model, shop.target(), n=100) == 15**2
    assert in_order(shop.rows("odd")) == wanted(model, Query(n=100))


def test_rows_are_written_in_several_batches(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recserver._internal.training.export.export_worker.ROWS_PER_WRITE", 50)
    model = write_crowd(tmp_path / "m.pkl", [f"u{n}" for n in range(200)], [f"i{n}" for n in range(20)])
    assert exported(model, shop.target()) == 2000
    assert in_order(shop.rows("m")) == wanted(model)


def some_rows() -> list[ExportRow]:
    return [("m", 2, "new", 1, "tea", 2.0), ("m", 2, "new", 2, "soup", 1.0)]


def test_concurrent_readers_see_the_previous_rows(shop: Shop, tmp_path: Path) -> None:
    exported(model := crowd(tmp_path), shop.target())
    with open_table_target(shop.target(), "m") as write:
        write(some_rows())
        assert in_order(shop.rows("m")) == wanted(model)
    assert in_order(shop.rows("m")) == [("new", 1, "tea", 2.0), ("new", 2, "soup", 1.0)]


@pytest.mark.parametrize("there", [True, False])
def test_a_failed_export_keeps_the_previous_rows(shop: Shop, tmp_path: Path, there: bool) -> None:
    model = crowd(tmp_path)
    if there:
        exported(model, shop.target())
    with pytest.raises(ZeroDivisionError), open_table_target(shop.target(), "m") as write:
        write(some_rows())
        raise ZeroDivisionError
    if there:
        assert in_order(shop.rows("m")) == wanted(model)
    elif shop.kind == "sqlite":
        assert not (shop.policy.data_dir / "shop.db").exists()
    elif shop.kind == "mysql":  # where making a table ends a transaction
        assert shop.rows("m") == []
    else:
        assert shop.run("SELECT to_regclass('top')") == [(None,)]


def test_a_rejected_row_rolls_the_export_back(shop: Shop, tmp_path: Path) -> None:
    low = "CHECK (score < 5)"
    shop.run(f"CREATE TABLE top ({shop.columns}, extra INT, {low})")
    exported(model := crowd(tmp_path), shop.target())
    with pytest.raises(ExportFailed, match=r"^The database reported: .+\. Check the table and the connection\.$"):  # noqa: SIM117
        with open_table_target(shop.target(), "m") as write:
            write(some_rows())
            write([("m", 2, "last", 1, "tea", 6.0)])
    assert in_order(shop.rows("m")) == wanted(model)


def test_a_table_with_other_columns_is_not_changed(shop: Shop, tmp_path: Path) -> None:
    shop.run("CREATE TABLE top (model_id VARCHAR(9), score INT)", "INSERT INTO top VALUES ('m', 7)")
    with pytest.raises(ExportFailed) as failure:
        exported(crowd(tmp_path), shop.target())
    assert str(failure.value) == (
        "The table 'top' exists but has no column model_version, user_id, rank, item_id: name another table, "
        "which is created if it is missing, or one with the columns model_id, model_version, user_id, rank, "
        "item_id, score."
    )
    assert shop.run("SELECT * FROM top") == [("m", 7)]


def test_required_columns_that_an_export_lacks_are_reported(shop: Shop, tmp_path: Path) -> None:
    shop.run(f"CREATE TABLE top ({shop.columns}, shelf INT NOT NULL, note VARCHAR(9) NOT NULL DEFAULT '-')")
    with pytest.raises(
        ExportFailed, match="'top' needs values for 'shelf', which exports do not have: give these"
    ):
        exported(crowd(tmp_path), shop.target())
    shop.run("DROP TABLE top", f"CREATE TABLE top ({shop.columns}, note VARCHAR(9) NOT NULL DEFAULT '-')")
    assert exported(crowd(tmp_path), shop.target()) == 9


def test_a_view_is_rejected(shop: Shop, tmp_path: Path) -> None:
    shop.run(f"CREATE TABLE under ({shop.columns})", "CREATE VIEW top AS SELECT * FROM under")
    with pytest.raises(ExportFailed, match=r"^'top' is a view: name the table that it shows, or another"):
        exported(crowd(tmp_path), shop.target())
    shop.run("DROP VIEW top", "DROP TABLE under")


def test_a_materialized_view_is_rejected(postgresql: Server, policy: SourcePolicy, tmp_path: Path) -> None:
    postgresql.run("CREATE MATERIALIZED VIEW shown AS SELECT 'm' AS model_id, 1 AS rank")
    target = TableTarget(table="shown", database=postgresql.dsn(), policy=policy)
    with pytest.raises(ExportFailed, match="'shown' is a view"):
        exported(crowd(tmp_path), target)
    postgresql.run("DROP MATERIALIZED VIEW shown")


@pytest.mark.parametrize("table", ["top", "shop.top"])
def test_a_table_without_transactions_is_rejected(
    mariadb: Server, policy: SourcePolicy, tmp_path: Path, table: str
) -> None:
    columns = SIX.format(rank="`rank`")
    mariadb.run(f"CREATE TABLE top ({columns}) ENGINE = MyISAM", "INSERT INTO top (model_id) VALUES ('m')")
    target = TableTarget(table=table, database=mariadb.dsn(), policy=policy)
    with pytest.raises(ExportFailed, match="'top' is of the engine MyISAM, which has no transactions"):
        exported(crowd(tmp_path), target)
    assert mariadb.run("SELECT COUNT(*) FROM top") == [(1,)]
    mariadb.run("DROP TABLE top")
    exported(crowd(tmp_path), target)
    mariadb.run("DROP TABLE top")


def test_the_url_can_be_an_environment_variable(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DB", shop.url)
    assert exported(crowd(tmp_path), shop.target(database="${SHOP_DB}")) == 9
    for url in ("sqlite:////somewhere/${SHOP_DB}", "sqlite:///${SHOP_DB}/no/x.db", "postgresql://${SHOP_DB}/x"):
        monkeypatch.setenv("SHOP_DB", "t0ld-by-nobody")
        with pytest.raises((InvalidInput, ExportFailed)) as failure:
            exported(tmp_path / "m.pkl", shop.target(database=url))
        assert "t0ld" not in str(failure.value) and "SHOP_DB" in str(failure.value)
    monkeypatch.delenv("SHOP_DB")
    with pytest.raises(InvalidInput, match=r"SHOP_DB is not set: .+ or write the value in its place\.$"):
        locate_table(shop.target(database="${SHOP_DB}"))


def test_schemas_of_postgresql(postgresql: Server, policy: SourcePolicy, tmp_path: Path) -> None:
    postgresql.run("DROP SCHEMA IF EXISTS extra CASCADE", "CREATE SCHEMA extra")
    target = TableTarget(table="extra.top", database=postgresql.dsn(), policy=policy)
    exported(model := crowd(tmp_path), target)
    exported(model, target)
    found = postgresql.run("SELECT user_id, rank, item_id, score FROM extra.top ORDER BY user_id, rank")
    assert [(*row,) for row in found] == wanted(model)
    with pytest.raises(ExportFailed, match='schema "nowhere" does not exist'):
        exported(model, target.model_copy(update={"table": "nowhere.top"}))


def test_errors_of_servers_are_reported_without_secrets(
    server: Server, policy: SourcePolicy, tmp_path: Path
) -> None:
    model = crowd(tmp_path)

    def refused(url: str, table: str = "top") -> str:
        with pytest.raises(ExportFailed) as failure:
            exported(model, TableTarget(table=table, database=url, policy=policy))
        assert PASSWORD not in str(failure.value) and "Pa55" not in str(failure.value)
        return str(failure.value)

    assert refused(server.dsn(password=f"not-{PASSWORD}")).endswith("Correct the user and the password.")
    assert refused(server.dsn(database="nothing_here")).endswith(".")
    away = server.dsn().replace(str(server.port), "1")
    assert "Check its host and port" in refused(away)
    foreign = {"postgresql": "pg_catalog.mine", "mysql": "mysql.mine"}[server.kind]
    assert refused(server.dsn(), foreign).endswith(
        "Grant the database user the privileges to create, read and change the table."
    )


def test_errors_of_a_driver_are_not_internal_errors(mariadb: Server, policy: SourcePolicy, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for parameter in (f"ssl_ca={tmp_path}/no.pem", f"ssl_ca={tmp_path}/gone.pem", "charset=klingon"):
        target = TableTarget(table="top", database=f"{mariadb.dsn()}?{parameter}", policy=policy)
        with pytest.raises(ExportFailed, match=r"^The database reported: .+\. C"):
            exported(crowd(tmp_path), target)


def test_waiting_for_a_locked_table_times_out(postgresql: Server, policy: SourcePolicy, tmp_path: Path) -> None:
    exported(model := crowd(tmp_path), TableTarget(table="top", database=postgresql.dsn(), policy=policy))
    short = policy.model_copy(update={"source_timeout": 0.05})
    with closing(postgresql.connect()) as other, other.transaction():
        other.execute("LOCK TABLE top IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ExportFailed, match="canceling statement due to lock timeout"):
            exported(model, TableTarget(table="top", database=postgresql.dsn(), policy=short))
    postgresql.run("DROP TABLE top")


def test_concurrent_exports_do_not_mix(server: Server, policy: SourcePolicy, tmp_path: Path) -> None:
    """The second export waits for the first and replaces its rows, or fails."""
    target = TableTarget(table="top", database=server.dsn(), policy=policy)
    models = [crowd(tmp_path), crowd(tmp_path / "2", version=2)]
    exported(models[0], target)
    failures = list[ExportFailed]()

    def again(model: Path) -> None:
        try:
            exported(model, target)
        except ExportFailed as failure:
            failures.append(failure)

    threads = [threading.Thread(target=again, args=(model,)) for model in models]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    versions = server.run("SELECT DISTINCT model_version FROM top")
    count = server.run("SELECT COUNT(*) FROM top")
    assert (len(versions), count, len(failures) < 2) == (1, [(9,)], True), failures
    server.run("DROP TABLE top")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:////etc/top.db", "is outside the data folder"),
        ("sqlite:///../top.db", "is outside the data folder"),
        ("sqlite:///models/top.db", "one of recserver's own files"),
        ("sqlite:///config/top.db", "one of recserver's own files"),
        ("sqlite:///.hidden.db", "one of recserver's own files"),
        ("sqlite:///history.db", "one of recserver's own files"),
        ("sqlite:///History.DB-wal", "one of recserver's own files"),
        ("sqlite:///", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("sqlite:///no/top.db", "its folder is missing"),
        ("sqlite:///link.db", "is outside the data folder"),
        ("sqlite:///top.db?vfs=unix", "is not allowed here"),
        ("postgresql://169.254.169.254/x", "no data chef may reach it"),
        ("postgresql://shop/x?host=other", "is not allowed here"),
        ("oracle://shop/x", "others are read only"),
        ("top.db", "must be a database URL"),
        ("postgresql://shop/x%00y", "contains a NUL character"),
        ("mysql://shop@127.0.0.1/", "names no database"),
    ],
)
def test_databases_that_cannot_be_export_targets(
    data_dir: Path, policy: SourcePolicy, url: str, said: str
) -> None:
    (data_dir / "link.db").symlink_to(data_dir.parent / "elsewhere.db")
    with pytest.raises(InvalidInput, match=said) as failure:
        locate_table(TableTarget(table="top", database=url, policy=policy))
    assert failure.value.errors[0].loc == ("database",)


def test_no_database_is_created_in_a_root(data_dir: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    policy = SourcePolicy(data_dir=data_dir, csv_roots=(root,))
    target = TableTarget(table="top", database=f"sqlite:///{root}/shop.db", policy=policy)
    with pytest.raises(InvalidInput, match="new ones are created in the data folder only"):
        locate_table(target)
    sqlite3.connect(root / "shop.db").close()
    assert exported(crowd(tmp_path), target) == 9
    with pytest.raises(InvalidInput, match="has no schemas"):
        locate_table(target.model_copy(update={"table": "main.top"}))
    with pytest.raises(InvalidInput, match="SQLite's own"):
        locate_table(target.model_copy(update={"table": "SQLite_top"}))


def test_the_default_database_can_be_anywhere(data_dir: Path, tmp_path: Path) -> None:
    policy = SourcePolicy(data_dir=data_dir, default_database=f"sqlite:///{tmp_path}/far.db")
    target = TableTarget(table="top", database=None, policy=policy)
    assert exported(crowd(tmp_path), target) == 9 and (tmp_path / "far.db").exists()
    assert locate_table(target).key != locate_table(target.model_copy(update={"table": "other"})).key


def test_a_file_that_is_not_a_database_is_not_changed(
    data_dir: Path, policy: SourcePolicy, tmp_path: Path
) -> None:
    (data_dir / "rows.csv").write_text("user_id,item_id\n" * 100)
    target = TableTarget(table="top", database="sqlite:///rows.csv", policy=policy)
    with pytest.raises(ExportFailed, match="file is not a database"):
        exported(crowd(tmp_path), target)
    assert (data_dir / "rows.csv").read_text() == "user_id,item_id\n" * 100


def test_an_export_waits_for_a_locked_database(
    data_dir: Path, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recserver._internal.training.export.sqlite_export.LOCK_TIMEOUT", 0.01)
    target = TableTarget(table="top", database="sqlite:///shop.db", policy=policy)
    with closing(sqlite3.connect(data_dir / "shop.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(ExportFailed, match="database is locked"),
            open_sqlite_target(locate_table(target), "m"),
        ):
            pass
        other.execute("COMMIT")
        with open_sqlite_target(locate_table(target), "m") as write:
            write(some_rows())
    with closing(sqlite3.connect(data_dir / "shop.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM top").fetchall() == [(2,)]
