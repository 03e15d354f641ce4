"""What ran, when, and how it ended: ``data/history.db``.

Nobody waits for it: runs are noted in memory and written by a coroutine of its own. A history that cannot be
written stops nothing; one that is damaged, or no history at all, is put aside under another name, and a new one
begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiosqlite
from pydantic import ValidationError

from recserver.core.clock import Clock, timestamp
from recserver.core.errors import StorageUnreadable
from recserver.training.run_outcome import RunOutcome
from recserver.training.run_record import RunRecord, run_id_prefix

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""SQLite's ``user_version`` of the tables below."""

MAX_PENDING = 10_000
"""Runs that are kept in memory while they cannot be written; beyond that the oldest are lost."""

RETRY_SECONDS = 30.0

MIN_RUNS_PER_TASK = 100
"""The newest runs of each task that age alone does not remove: a clock that is set wrong makes everything old."""

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


class RunHistory:
    """The runs of the past, newest first."""

    def __init__(self, path: Path, clock: Clock, *, keep_days: float, keep_runs: int) -> None:
        """
        Args:
            path: of the database.
            keep_days: runs that began earlier are forgotten, but for the newest of each task.
            keep_runs: so many are kept at most.
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
        """Runs of this server, until those that an earlier one left are closed."""

    def add(self, run: RunRecord) -> None:
        """Remember what is known of a run now; it is written soon."""
        self._pending[run.run_id] = run
        if self._own_run_ids is not None:
            self._own_run_ids.add(run.run_id)
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._has_pending.set()

    async def open(self) -> None:
        """Be ready to write. What is in the way is told of when something is to be written."""
        async with self._lock:
            try:
                await self._open()
            except sqlite3.OperationalError as error:
                self._log_write_failure(error)
            except sqlite3.DatabaseError as error:
                await self._quarantine(error)
            except OSError as error:
                self._log_write_failure(error)

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            if not await self._flush():
                await self._clock.wait(asyncio.Event(), self._clock.monotonic() + RETRY_SECONDS)
                self._has_pending.set()

    async def close_interrupted(self, error: str) -> None:
        """Mark the runs that an earlier server did not see end as failed for ``error``."""
        try:
            left = await self.page(limit=MAX_PENDING, outcome=RunOutcome.RUNNING)
        except StorageUnreadable:
            self._own_run_ids = None
            return
        ours, self._own_run_ids = self._own_run_ids or set(), None
        now = timestamp(self._clock.now())
        for run in left:
            if run.run_id not in ours:  # whatever the clock showed when they were begun
                changes = {"outcome": RunOutcome.FAILED.value, "error": error, "ended_at": now}
                self.add(run.model_copy(update=changes))

    async def close(self) -> None:
        """Write what is left, and let the file go."""
        await self._flush()
        async with self._lock:
            await self._disconnect()

    async def get(self, run_id: str) -> RunRecord | None:
        """One run.

        Raises:
            StorageUnreadable: if the history cannot be read.
        """
        found = await self._query("run_id = :run_id", {"run_id": run_id}, 1)
        return found[0] if found else None

    async def page(self, *, limit: int, before: str | None = None, **filters: str | None) -> list[RunRecord]:
        """Runs, newest first.

        Args:
            limit: how many at most.
            before: only those that began before the run with this id.
            equal: ``task_name``, ``model_id``, ``outcome``; None stands for any.

        Raises:
            StorageUnreadable: if the history cannot be read.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        conditions = [f"{name} = :{name}" for name in given]
        if before is not None:
            conditions.append("run_id < :before")
        return await self._query(" AND ".join(conditions) or "1", given | {"before": before}, limit)

    async def _query(self, condition: str, values: Mapping[str, Any], limit: int) -> list[RunRecord]:
        if not await self._flush():
            raise self._unreadable_error()
        async with self._lock:
            try:
                return await select_runs(await self._open(), condition, values, limit)
            except (sqlite3.OperationalError, OSError):
                raise self._unreadable_error() from None
            except sqlite3.DatabaseError as error:
                await self._quarantine(error)
                return []

    def _unreadable_error(self) -> StorageUnreadable:
        return StorageUnreadable(
            f"The history {self._path.name} cannot be read or written: see that the disk has room and the folder "
            "can be written; the log says more."
        )

    async def _flush(self) -> bool:
        """Whether everything noted so far stands in the database."""
        async with self._lock:
            if not self._pending:
                return True
            try:
                await self._write()
            except sqlite3.OperationalError as error:  # the disk is full, the folder is read-only
                return self._log_write_failure(error)
            except sqlite3.DatabaseError as error:
                await self._quarantine(error)
                try:
                    await self._write()
                except (sqlite3.Error, OSError) as again:
                    return self._log_write_failure(again)
            except OSError as error:
                return self._log_write_failure(error)
            self._failing = False
            return True

    def _log_write_failure(self, error: Exception) -> bool:
        if not self._failing:  # once, not for every run
            logger.warning("%s could not be written and waits in memory: %s", self._path.name, error)
        self._failing = True
        return False

    async def _write(self) -> None:
        database = await self._open()
        runs = dict(self._pending)
        rows = [(*(getattr(run, name) for name in COLUMNS[:-1]), run.model_dump_json()) for run in runs.values()]
        await database.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)", rows)
        oldest = run_id_prefix(self._clock.now() - timedelta(days=self._keep_days))
        await database.execute(_DELETE_OLD, (oldest, MIN_RUNS_PER_TASK))
        await database.execute(_DELETE_EXCESS, (self._keep_runs,))
        await database.commit()
        for run_id, run in runs.items():
            if self._pending.get(run_id) is run:
                del self._pending[run_id]

    async def _open(self) -> aiosqlite.Connection:
        """The database as it is on the disk now: it may have been removed meanwhile."""
        identity = await asyncio.to_thread(_file_identity, self._path)
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
        self._database, self._identity = database, await asyncio.to_thread(_file_identity, self._path)
        return database

    async def _disconnect(self) -> None:
        if self._database is not None:
            await self._database.close()
        self._database = None

    async def _quarantine(self, error: Exception) -> None:
        await self._disconnect()
        aside = f"{self._path.name}.broken-{self._clock.now():%Y%m%dT%H%M%S}"
        logger.error(
            "%s cannot be used (%s): it is kept as %s, and a new one begins", self._path.name, error, aside
        )
        await asyncio.to_thread(_rename_database, self._path, aside)


async def select_runs(
    database: aiosqlite.Connection, condition: str, values: Mapping[str, Any], limit: int
) -> list[RunRecord]:
    """The newest runs that fulfil a condition in SQL."""
    query = f"SELECT content FROM runs WHERE {condition} ORDER BY run_id DESC LIMIT :limit"  # noqa: S608 - ours
    async with database.execute(query, {**values, "limit": limit}) as cursor:
        return [run for row in await cursor.fetchall() if (run := _parse_run(row[0])) is not None]


async def check_schema(database: aiosqlite.Connection) -> None:
    """See that a database is empty or a history.

    Raises:
        sqlite3.DatabaseError: if it is anything else.
    """
    async with database.execute("PRAGMA user_version") as cursor:
        version = await cursor.fetchone()
    if version is None or version[0] not in (0, SCHEMA_VERSION):
        raise sqlite3.DatabaseError("it was made by another version of recserver")
    async with database.execute("SELECT type FROM sqlite_master LIMIT 1") as cursor:
        is_empty = await cursor.fetchone() is None
    async with database.execute("PRAGMA table_info(runs)") as cursor:
        columns = [row[1] async for row in cursor]
    if not is_empty and columns != COLUMNS:
        raise sqlite3.DatabaseError("its tables are not those of a history")


def _parse_run(content: str) -> RunRecord | None:
    """A run as it was written; None if it cannot be read, by this version at least."""
    try:
        return RunRecord.model_validate_json(content)
    except ValidationError:
        logger.warning("a run of the history cannot be read and is passed over")
        return None


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _rename_database(path: Path, name: str) -> None:
    try:
        for ending in ("-wal", "-shm", ""):  # the log first: a new database must not find that of another
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + ending).replace(path.with_name(name + ending))
    except OSError:
        logger.exception("%s could not be put aside", path.name)
