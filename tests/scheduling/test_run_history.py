"""The run history alone: foreign and damaged databases, and retention."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from recserver import RecServer, Settings
from recserver._internal.core.clock import timestamp
from recserver._internal.results.runs import RunOutcome, RunRecord
from recserver._internal.scheduling.run_history import MIN_RUNS_PER_TASK, RunHistory
from recserver._internal.training.run_ids import new_run_id
from recserver.testing import FakeClock, ScriptedExecutor

DAY = 86_400.0


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def history(tmp_path: Path, clock: FakeClock) -> AsyncIterator[RunHistory]:
    """An open history that keeps runs for a day, and 500 of them at most."""
    one = RunHistory(tmp_path / "history.db", clock, keep_days=1, keep_runs=500)
    await one.open()
    yield one
    await one.close()


def run_of(task_name: str, clock: FakeClock, outcome: str = "completed") -> RunRecord:
    """A run that began just now."""
    return RunRecord(
        run_id=new_run_id(clock.now()), task_name=task_name, model_id="m", data_chef_id="c", trigger="schedule",
        outcome=outcome, started_at=timestamp(clock.now()),
    )  # fmt: skip


FOREIGN = {
    "other columns": "CREATE TABLE runs (id INTEGER PRIMARY KEY, note TEXT)",
    "a column more": "CREATE TABLE runs (run_id, task_name, model_id, outcome, started_at, content, x NOT NULL)",
    "other tables": "CREATE TABLE customers (name TEXT); INSERT INTO customers VALUES ('Ada')",
    "our version": "CREATE TABLE customers (name TEXT); PRAGMA user_version = 1",
    "a view": "CREATE VIEW runs AS SELECT 1 AS run_id",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=list(FOREIGN))
async def test_a_database_that_is_not_a_history_is_renamed(
    data_dir: Path, settings: Settings, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    data_dir.mkdir()
    with closing(sqlite3.connect(data_dir / "history.db")) as database:
        database.executescript(content)
        theirs = list(database.iterdump())
    async with RecServer(data_dir, settings, executor=ScriptedExecutor()) as rec:
        assert (await rec.list_runs())["data"] == []
        assert (await rec.list_runs())["data"] == []
    said = [one.getMessage() for one in caplog.records if one.name == "recserver._internal.scheduling.run_history"]
    assert len(said) == 1 and "its tables are not those of a history" in said[0]
    (aside,) = data_dir.glob("history.db.broken-*")
    assert aside.name in said[0]
    with closing(sqlite3.connect(aside)) as database:
        assert list(database.iterdump()) == theirs


async def test_a_history_is_opened_again_as_it_was_left(
    history: RunHistory, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of("t", clock)
    history.add(run)
    await history.close()
    with closing(sqlite3.connect(tmp_path / "history.db")) as database:
        database.execute("CREATE VIEW theirs AS SELECT outcome FROM runs")  # looking is allowed
        database.execute("PRAGMA user_version = 0")  # as after a crash in the middle of the first opening
    assert await history.get(run.run_id) == run
    assert not caplog.records and [path.name for path in tmp_path.glob("*.broken-*")] == []


async def test_the_wal_of_a_killed_writer_is_renamed_with_its_database(
    history: RunHistory, clock: FakeClock, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as database:
        database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE customers (name TEXT)")
        files = {path.name: path.read_bytes() for path in tmp_path.glob("foreign.db*")}
    assert set(files) == {"foreign.db", "foreign.db-wal", "foreign.db-shm"}
    await history.close()
    for name, content in files.items():
        (tmp_path / name.replace("foreign", "history")).write_bytes(content)
    history.add(run := run_of("t", clock))
    assert await history.page(limit=9) == [run]
    (aside,) = tmp_path.glob("history.db.broken-*")
    with closing(sqlite3.connect(aside)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


@pytest.mark.parametrize("days", [2, 4000])
async def test_the_newest_runs_of_each_task_survive_a_clock_set_forward(
    history: RunHistory, clock: FakeClock, days: int
) -> None:
    runs: dict[str, list[str]] = {"often": [], "seldom": []}
    for number in range(MIN_RUNS_PER_TASK + 20):
        for name in ("often", "seldom") if number < 3 else ("often",):
            run = run_of(name, clock)
            history.add(run)
            runs[name].append(run.run_id)
    assert len(await history.page(limit=500)) == MIN_RUNS_PER_TASK + 23
    clock.jump(days * DAY)
    history.add(new := run_of("other", clock))
    kept = [run.run_id for run in await history.page(limit=500)]
    assert kept == sorted([new.run_id, *runs["seldom"], *runs["often"][-MIN_RUNS_PER_TASK:]], reverse=True)


async def test_old_runs_of_a_task_with_many_newer_ones_are_deleted(history: RunHistory, clock: FakeClock) -> None:
    history.add(old := run_of("t", clock))
    await clock.advance(DAY + 1)
    for _ in range(MIN_RUNS_PER_TASK):
        assert await history.get(old.run_id) == old
        history.add(run_of("t", clock))
    assert await history.get(old.run_id) is None


async def test_the_duration_of_an_interrupted_run_is_unknown(data_dir: Path, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        clock = FakeClock()
        await stack.enter_async_context(RecServer(data_dir, settings, clock=clock, executor=ScriptedExecutor()))
        left = run_of("t", clock, RunOutcome.RUNNING)
    with closing(sqlite3.connect(data_dir / "history.db")) as database, database:
        told = left.run_id, "t", "m", left.outcome, left.started_at, left.to_json()
        database.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", told)
    await clock.advance(50)
    async with RecServer(data_dir, settings, clock=clock, executor=ScriptedExecutor()) as rec:
        await clock.settle()
        run = await rec.get_run(left.run_id)
    assert (run["outcome"], run["seconds"], run["ended_at"]) == ("failed", None, timestamp(clock.now()))
