"""``data/history.db`` as a read-only server reads it: not a byte of the folder is touched."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite

from recserver.core.errors import StorageUnreadable
from recserver.scheduling.run_history import RunHistory, check_schema, select_runs
from recserver.training.run_record import RunRecord


class ReadOnlyRunHistory(RunHistory):
    """The history that another server writes, or none does. It is opened for each look, and closed again."""

    async def open(self) -> None:
        """There is nothing to prepare."""

    async def _query(self, condition: str, values: Mapping[str, Any], limit: int) -> list[RunRecord]:
        address = await asyncio.to_thread(_sqlite_uri, self._path)
        if address is None:
            return []
        try:
            async with AsyncExitStack() as stack:
                database = await stack.enter_async_context(aiosqlite.connect(address, uri=True))
                await check_schema(database)
                return await select_runs(database, condition, values, limit)
        except sqlite3.Error as error:
            raise StorageUnreadable(
                f"The history {self._path.name} cannot be read without writing ({error}): try again, or ask the "
                "server that writes it."
            ) from None


def _sqlite_uri(path: Path) -> str | None:
    """How SQLite is to open a history so that it makes no file beside it; None if there is no history.

    While somebody writes, or after they were killed, what is new stands in ``-wal``, which is read by the index
    ``-shm``: SQLite would write that too unless told not to. After an orderly end both are gone, and SQLite would
    make them unless told that nobody changes the file. If somebody begins to in that very moment, the answer may
    be an error, and the next one is right.
    """
    if not path.exists():
        return None
    log = path.with_name(f"{path.name}-wal")
    how = "readonly_shm=1" if log.exists() else "immutable=1"
    return f"file:{quote(str(path))}?mode=ro&{how}"
