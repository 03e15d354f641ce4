"""What is remembered of each task's runs between two starts of the server: ``data/.scheduler.json``."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from recserver.core.errors import InvalidInput
from recserver.storage import atomic_files as files

logger = logging.getLogger(__name__)


MAX_BYTES = 2**26
"""Bytes of the file: a record has about a thousand."""


class TaskState(BaseModel):
    """One task's past."""

    last_due_at: str | None = None
    """When the last run was due: the next is due one interval later, however long that one took."""
    last_run_at: str | None = None
    """When the last run started."""
    last_status: str | None = None
    """How it ended: ``completed``, ``failed``, ``stopped``, ``skipped``; ``training`` while it runs."""
    last_error: str | None = None
    last_success_at: str | None = None
    """When a run ended as completed or unchanged."""
    run_id: str | None = None
    """Of the last run."""
    failing_since: str | None = None
    """When the first of the runs ended that failed one after the other; None if the last did not fail."""
    definition: str | None = None
    """Digest of what the last run was told to do."""
    data_report: dict[str, Any] | None = None
    """What the last run read of its source."""
    runs: int = 0
    retries: int = 0
    """Runs that were further attempts at one that failed."""
    failures: int = 0
    """Runs that failed, interrupted ones included."""
    interrupted: int = 0
    """Runs that the end of the server ended."""
    late: int = 0
    """Runs that began more than a second after they were due."""
    coalesced: int = 0
    """Due times that were missed, and made up for by the next run."""
    skipped: int = 0
    """Due times at which nothing was started: a training was under way, or the model or chef was missing."""
    crashes: int = 0
    """Runs one after the other, up to now, whose worker process died."""


class TaskStateStore:
    """The records of all tasks. A damaged or unwritable file never stops training."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._states: dict[str, TaskState] = {}
        self._lines: dict[str, bytes] = {}
        """Each record as it is written."""
        self._lock = asyncio.Lock()
        self._changes_made = self._changes_saved = 0

    async def open(self) -> None:
        """Read what an earlier server left, and remove what it left half written.

        A file that cannot be read is put aside; a record that cannot be used is left out.
        """
        await asyncio.to_thread(files.remove_temporaries, self._path.parent)
        self._states, self._lines = {}, {}
        try:
            await self.refresh()
        except InvalidInput as error:
            aside = self._path.with_name(f"{self._path.name}.broken")
            logger.warning("what is known of past runs is lost: %s It is kept as %s.", error, aside.name)
            with suppress(OSError):
                await asyncio.to_thread(self._path.replace, aside)

    async def refresh(self) -> None:
        """Read what the file says now.

        Raises:
            InvalidInput: if it cannot be read; what was known before still is.
        """
        try:
            content = await asyncio.to_thread(files.read_object, self._path, MAX_BYTES)
        except FileNotFoundError:
            content = {}
        self._states, self._lines = {}, {}
        for name, one in content.items():
            try:
                self._put(name, TaskState.model_validate(one))
            except ValidationError:
                logger.warning("what is known of past runs of task %s cannot be read and is left out", name)

    @property
    def names(self) -> list[str]:
        """The tasks of which something is known, those without a file included."""
        return list(self._states)

    def get(self, task_name: str) -> TaskState:
        """A task's record; an empty one if nothing is known."""
        return self._states.get(task_name, TaskState())

    async def update(self, task_name: str, **changes: Any) -> None:
        """Change some fields of a task's record and save them."""
        self._put(task_name, self.get(task_name).model_copy(update=changes))
        await self._save()

    async def prepare(self, task_name: str, **changes: Any) -> None:
        """Save a change of a record before :meth:`note` lets it be seen: no crash undoes what was seen."""
        self._lines[task_name] = _line(task_name, self.get(task_name).model_copy(update=changes))
        await self._save()

    def note(self, task_name: str, **changes: Any) -> None:
        """Change some fields of a task's record; :meth:`flush` saves what :meth:`prepare` has not."""
        prepared = self._lines.get(task_name)
        self._put(task_name, self.get(task_name).model_copy(update=changes))
        self._changes_made += self._lines[task_name] != prepared

    async def flush(self) -> None:
        """Save what is not saved yet."""
        if self._changes_saved < self._changes_made:
            await self._save_changes(self._changes_made)

    async def delete(self, task_name: str) -> None:
        """Drop a task's record."""
        if self._states.pop(task_name, None) is not None:
            del self._lines[task_name]
            await self._save()

    def _put(self, task_name: str, state: TaskState) -> None:
        self._states[task_name], self._lines[task_name] = state, _line(task_name, state)

    async def _save(self) -> None:
        self._changes_made += 1
        await self._save_changes(self._changes_made)

    async def _save_changes(self, mine: int) -> None:
        async with self._lock:
            if self._changes_saved >= mine:  # written along with an earlier change
                return
            changes = self._changes_made
            content = b"{\n" + b",\n".join(line for _, line in sorted(self._lines.items())) + b"\n}\n"
            try:
                await files.to_thread_shielded(files.write_atomic, self._path, content)
                self._changes_saved = changes
            except OSError as error:
                logger.warning("%s could not be saved: %s", self._path.name, error)


def _line(task_name: str, record: TaskState) -> bytes:
    """A record as the file has it."""
    line = f"{json.dumps(task_name)}: {json.dumps(record.model_dump(), ensure_ascii=False)}"
    return line.encode(errors="backslashreplace")
