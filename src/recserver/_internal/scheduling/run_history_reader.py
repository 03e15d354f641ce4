"""The run history ``data/history.db`` as a read-only server reads it, without changing any file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite

from recserver._internal.core.errors import StorageUnreadable
from recserver._internal.results.runs import RunRecord
from recserver._internal.scheduling.run_history import RunHistory, check_schema, select_runs


class ReadOnlyRunHistory(RunHistory):
    """A history that another server may be writing. The database is opened and closed by each query."""

    async def open(self) -> None:
        """Nothing to prepare."""

    async def _query(self, condition: str, values: Mapping[str, Any], limit: int) -> list[RunRecord]:
        uri = await asyncio.to_thread(_sqlite_uri, self._path)
        if uri is None:
            return []
        try:
            async with aiosqlite.connect(uri, uri=True) as database:
                await check_schema(database)
                return await select_runs(database, condition, values, limit)
        except sqlite3.Error as error:
            raise StorageUnreadable(
                f"The run history {self._path.name} cannot be read without writing ({error}): try again, or ask "
                "the server that writes it."
            ) from None


def _sqlite_uri(path: Path) -> str | None:
    """The URI that makes SQLite open a history without creating files next to it; None if there is no history.

    While another process writes, or after it was killed, new rows are in ``-wal``, indexed by ``-shm``, which
    SQLite would write to unless opened with ``readonly_shm``. After an orderly close both files are removed, and
    SQLite would create them unless the database is declared ``immutable``. If a writer opens the database at
    that very moment, one query may fail; the next one succeeds.
    """
    if not path.exists():
        return None
    wal = path.with_name(f"{path.name}-wal")
    option = "readonly_shm=1" if wal.exists() else "immutable=1"
    return f"file:{quote(str(path))}?mode=ro&{option}"
