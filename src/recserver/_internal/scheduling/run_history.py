"""The history of training runs: ``data/history.db``.

Recording a run never waits for the disk: records are collected in memory and written by a coroutine of their own.
A history that cannot be written does not stop training. A damaged database, or one that is not a history, is
renamed, and a new one is created.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import msgspec

from recserver._internal.core.clock import Clock, timestamp
from recserver._internal.core.errors import StorageUnreadable
from recserver._internal.results.runs import RunOutcome, RunRecord
from recserver._internal.storage.atomic_files import file_identity
from recserver._internal.training.run_ids import run_id_prefix

logger = logging.getLogger(__name__)

T = TypeVar("T")

SCHEMA_VERSION = 1
"""SQLite's ``user_version`` of the tables below."""

MAX_PENDING = 10_000
"""Records held in memory while the database cannot be written; beyond that the oldest are dropped."""

RETRY_SECONDS = 30.0
"""Seconds between attempts to write while the database cannot be written."""

MIN_RUNS_PER_TASK = 100
"""The newest runs of each task are not deleted by age: a clock that was set forward makes all runs look old."""

COLUMNS = ["run_id", "task_name", "model_id", "outcome", "started_at", "content"]

_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, task_name TEXT NOT NULL, model_id TEXT NOT NULL, outcome TEXT NOT NULL,
  started_at TEXT NOT NULL, content TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_task ON runs (task_name, run_id);
CREATE INDEX IF NOT EXISTS runs_by_model ON runs (model_id, run_id);
"""

_DELETE_OLD = """
DELETE FROM runs WHERE run_id < ? AND run_id IN (
  SELECT run_id FROM (
    SELECT run_id, row_number() OVER (PARTITION BY task_name ORDER BY run_id DESC) AS place FROM runs
  ) WHERE place > ?
)
"""
_DELETE_EXCESS = "DELETE FROM runs WHERE run_id <= (SELECT run_id FROM runs ORDER BY run_id DESC LIMIT 1 OFFSET ?)"

_SCHEMA = """
SELECT user_version, (SELECT count(*) FROM sqlite_master),
  (SELECT group_concat(name) FROM pragma_table_info('runs'))
FROM pragma_user_version
"""


class RunHistory:
    """The records of current and past runs, newest first."""

    def __init__(self, path: Path, clock: Clock, *, keep_days: float, keep_runs: int) -> None:
        """
        Args:
            path: of the database.
            keep_days: older runs are deleted, except the newest :data:`MIN_RUNS_PER_TASK` of each task.
            keep_runs: the maximum number of runs stored.
        """
        self._path = path
        self._clock = clock
        self._keep_days, self._keep_runs = keep_days, keep_runs
        self._database: aiosqlite.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._pending: dict[str, RunRecord] = {}
        self._has_pending = asyncio.Event()
        self._lock = asyncio.Lock()
        self._failing = False
        self._own_run_ids: set[str] | None = set()
        """Runs of this server; None once :meth:`close_interrupted` has closed those of an earlier one."""

    def add(self, run: RunRecord) -> None:
        """Store a record, or replace the one with the same id. It is visible at once and written soon."""
        self._pending[run.run_id] = run
        if self._own_run_ids is not None:
            self._own_run_ids.add(run.run_id)
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._has_pending.set()

    async def open(self) -> None:
        """Open the database. A failure is logged, and it is tried again when a record is to be written."""
        await self._save()

    async def run(self) -> None:
        """Write records as they are added, until cancelled."""
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            if not await self._flush():
                await self._clock.wait(asyncio.Event(), self._clock.monotonic() + RETRY_SECONDS)
                self._has_pending.set()

    async def close_interrupted(self, error: str) -> None:
        """Mark the runs that an earlier server left unfinished as failed, with ``error``."""
        try:
            unfinished = await self.page(limit=MAX_PENDING, outcome=RunOutcome.RUNNING)
        except StorageUnreadable:
            self._own_run_ids = None
            return
        # Distinguished by id, not by start time: the clock may have been set meanwhile.
        own_run_ids, self._own_run_ids = self._own_run_ids or set(), None
        changes = {"outcome": RunOutcome.FAILED.value, "error": error, "ended_at": timestamp(self._clock.now())}
        for run in unfinished:
            if run.run_id not in own_run_ids:
                self.add(run.replace(**changes))

    async def close(self) -> None:
        """Write pending records and close the database."""
        await self._flush()
        async with self._lock:
            await self._disconnect()

    async def get(self, run_id: str) -> RunRecord | None:
        """The record of a run; None if there is none.

        Raises:
            StorageUnreadable: if the history cannot be read.
        """
        runs = await self._query("run_id = :run_id", {"run_id": run_id}, 1)
        return runs[0] if runs else None

    async def page(self, *, limit: int, before: str | None = None, **filters: str | None) -> list[RunRecord]:
        """Runs, newest first.

        Args:
            limit: the maximum number of runs.
            before: only runs that began before the run with this id.
            filters: the required ``task_name``, ``model_id`` or ``outcome``; None matches any.

        Raises:
            StorageUnreadable: if the history cannot be read.
        """
        values = {name: value for name, value in filters.items() if value is not None}
        conditions = [f"{name} = :{name}" for name in values]
        if before is not None:
            conditions.append("run_id < :before")
        return await self._query(" AND ".join(conditions) or "1", values | {"before": before}, limit)

    async def _query(self, condition: str, values: Mapping[str, Any], limit: int) -> list[RunRecord]:
        if await self._flush():
            with contextlib.suppress(sqlite3.Error, OSError):
                return await self._use_database(lambda database: select_runs(database, condition, values, limit))
        raise StorageUnreadable(
            f"The run history {self._path.name} cannot be read or written: check that the disk has free space and "
            "the folder is writable; the log has the details."
        )

    async def _flush(self) -> bool:
        """Write pending records; whether all of them are in the database."""
        return not self._pending or await self._save()

    async def _save(self) -> bool:
        try:
            await self._use_database(self._write)
        except (sqlite3.Error, OSError) as error:
            if not self._failing:  # logged once, not for every run
                logger.warning("%s cannot be written, its records wait in memory: %s", self._path.name, error)
            self._failing = True
            return False
        self._failing = False
        return True

    async def _use_database(self, use: Callable[[aiosqlite.Connection], Awaitable[T]]) -> T:
        """The result of ``use``; if the database is damaged, on a new one that takes its place."""
        async with self._lock:
            try:
                return await use(await self._open())
            except sqlite3.OperationalError:  # a full disk, a read-only folder: the database itself is sound
                raise
            except sqlite3.DatabaseError as error:
                await self._quarantine(error)
                return await use(await self._open())

    async def _write(self, database: aiosqlite.Connection) -> None:
        runs = dict(self._pending)
        if not runs:
            return
        rows = [(*(getattr(run, name) for name in COLUMNS[:-1]), run.to_json().decode()) for run in runs.values()]
        await database.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)", rows)
        oldest = run_id_prefix(self._clock.now() - timedelta(days=self._keep_days))
        await database.execute(_DELETE_OLD, (oldest, MIN_RUNS_PER_TASK))
        await database.execute(_DELETE_EXCESS, (self._keep_runs,))
        await database.commit()
        for run_id, run in runs.items():
            if self._pending.get(run_id) is run:
                del self._pending[run_id]

    async def _open(self) -> aiosqlite.Connection:
        """A connection to the file that is at the path now: it may have been removed or replaced meanwhile."""
        identity = await asyncio.to_thread(file_identity, self._path)
        if self._database is not None and identity == self._identity:
            return self._database
        await self._disconnect()
        database = await aiosqlite.connect(self._path)
        try:
            await check_schema(database)
            await database.execute("PRAGMA journal_mode = WAL")
            await database.execute("PRAGMA synchronous = NORMAL")
            await database.executescript(f"{_TABLES} PRAGMA user_version = {SCHEMA_VERSION};")
        except BaseException:
            await database.close()
            raise
        self._database, self._identity = database, await asyncio.to_thread(file_identity, self._path)
        return database

    async def _disconnect(self) -> None:
        if self._database is not None:
            await self._database.close()
        self._database = None

    async def _quarantine(self, error: Exception) -> None:
        await self._disconnect()
        new_name = f"{self._path.name}.broken-{self._clock.now():%Y%m%dT%H%M%S}"
        logger.error(
            "%s cannot be used (%s): renaming it to %s and creating a new one", self._path.name, error, new_name
        )
        await asyncio.to_thread(_rename_database, self._path, new_name)


async def select_runs(
    database: aiosqlite.Connection, condition: str, values: Mapping[str, Any], limit: int
) -> list[RunRecord]:
    """The newest runs that meet an SQL condition. Records that cannot be parsed are left out."""
    query = f"SELECT content FROM runs WHERE {condition} ORDER BY run_id DESC LIMIT :limit"  # noqa: S608 - ours
    rows = await database.execute_fetchall(query, {**values, "limit": limit})
    return [run for (content,) in rows if (run := _parse_run(content)) is not None]


async def check_schema(database: aiosqlite.Connection) -> None:
    """Check that a database is empty or a run history.

    Raises:
        sqlite3.DatabaseError: if it is anything else.
    """
    ((version, objects, columns),) = await database.execute_fetchall(_SCHEMA)
    if version not in (0, SCHEMA_VERSION):
        raise sqlite3.DatabaseError("it was made by another version of recserver")
    if objects and columns != ",".join(COLUMNS):
        raise sqlite3.DatabaseError("its tables are not those of a history")


def _parse_run(content: str) -> RunRecord | None:
    try:
        return msgspec.json.decode(content, type=RunRecord)
    except msgspec.DecodeError:
        logger.warning("a record of the run history cannot be read by this version and is left out")
        return None


def _rename_database(path: Path, name: str) -> None:
    try:
        for suffix in ("-wal", "-shm", ""):  # the log first: SQLite would replay it into the new database
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).replace(path.with_name(name + suffix))
    except OSError:
        logger.exception("%s could not be renamed", path.name)
