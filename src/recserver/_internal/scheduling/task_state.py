"""The state of each task that survives a restart of the server: ``data/.scheduler.json``."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from recserver._internal.core.errors import InvalidInput
from recserver._internal.storage import atomic_files as files

logger = logging.getLogger(__name__)

MAX_BYTES = 2**26
"""Maximum size of the file; a task takes about 1 kB."""


class TaskState(BaseModel):
    """The state of one task, as of its last run."""

    last_due_at: str | None = None
    """When the last scheduled run was due; the next is due one interval after that."""
    last_run_at: str | None = None
    """When the last run started."""
    last_status: str | None = None
    """``training`` during a run, then its outcome; ``skipped`` if no run could begin when last due."""
    last_error: str | None = None
    last_success_at: str | None = None
    """When a run ended as completed or unchanged."""
    run_id: str | None = None
    """Id of the last run."""
    failing_since: str | None = None
    """When the first of the latest consecutive failures ended; None if the task is not failing."""
    definition: str | None = None
    """Digest of the last run's definition: model and data chefs."""
    data_report: dict[str, Any] | None = None
    """What the last run read from its source."""
    last_warnings: list[str] = Field(default_factory=list)
    """Warnings of the last run that completed."""
    runs: int = 0
    retries: int = 0
    """Runs that retried a failed one."""
    failures: int = 0
    """Failed runs, interrupted ones included."""
    interrupted: int = 0
    """Runs that the end of the server interrupted."""
    late: int = 0
    """Runs that began more than a second after they were due."""
    coalesced: int = 0
    """Missed due times that were replaced by the next run."""
    skipped: int = 0
    """Due times at which no run began: a training was under way, or the model or a data chef was missing."""
    crashes: int = 0
    """Consecutive runs, the last included, whose worker process died."""


class TaskStateStore:
    """The states of all tasks. A damaged or unwritable file never stops training."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._states: dict[str, TaskState] = {}
        self._lines: dict[str, bytes] = {}
        """Each state as it is in the file, so that a save need not encode all of them again."""
        self._lock = asyncio.Lock()
        self._changes_made = self._changes_saved = 0

    async def open(self) -> None:
        """Read the file, and remove temporary files of an earlier server.

        An unreadable file is renamed; an invalid entry is left out.
        """
        await asyncio.to_thread(files.remove_temporaries, self._path.parent)
        self._states, self._lines = {}, {}
        try:
            await self.refresh()
        except InvalidInput as error:
            broken = self._path.with_name(f"{self._path.name}.broken")
            logger.warning("the state of all tasks is lost: %s It is renamed to %s.", error, broken.name)
            with suppress(OSError):
                await asyncio.to_thread(self._path.replace, broken)

    async def refresh(self) -> None:
        """Read the file again.

        Raises:
            InvalidInput: if it cannot be read; the states in memory are unchanged.
        """
        try:
            content = await asyncio.to_thread(files.read_object, self._path, MAX_BYTES)
        except FileNotFoundError:
            content = {}
        self._states, self._lines = {}, {}
        for name, state in content.items():
            try:
                self._put(name, TaskState.model_validate(state))
            except ValidationError:
                logger.warning("the state of task %s is invalid and is left out", name)

    @property
    def names(self) -> list[str]:
        """The tasks that have a state, those without a task file included."""
        return list(self._states)

    def get(self, task_name: str) -> TaskState:
        """A task's state; an empty one if the task has none."""
        return self._states.get(task_name, TaskState())

    async def update(self, task_name: str, **changes: Any) -> None:
        """Change some fields of a task's state and save them."""
        self.note(task_name, **changes)
        await self.flush()

    async def prepare(self, task_name: str, **changes: Any) -> None:
        """Save a change before :meth:`note` makes it visible: what was visible survives a crash."""
        self._lines[task_name] = _line(task_name, self.get(task_name).model_copy(update=changes))
        self._changes_made += 1
        await self.flush()

    def note(self, task_name: str, **changes: Any) -> None:
        """Change some fields of a task's state; :meth:`flush` saves what :meth:`prepare` has not."""
        prepared = self._lines.get(task_name)
        self._put(task_name, self.get(task_name).model_copy(update=changes))
        self._changes_made += self._lines[task_name] != prepared

    async def delete(self, task_name: str) -> None:
        """Delete a task's state."""
        if self._states.pop(task_name, None) is not None:
            del self._lines[task_name]
            self._changes_made += 1
            await self.flush()

    def _put(self, task_name: str, state: TaskState) -> None:
        self._states[task_name], self._lines[task_name] = state, _line(task_name, state)

    async def flush(self) -> None:
        """Save the changes made so far, unless a concurrent call has saved them."""
        required = self._changes_made
        async with self._lock:
            if self._changes_saved >= required:
                return
            changes = self._changes_made
            content = b"{\n" + b",\n".join(line for _, line in sorted(self._lines.items())) + b"\n}\n"
            try:
                await files.to_thread_shielded(files.write_atomic, self._path, content)
                self._changes_saved = changes
            except OSError as error:
                logger.warning("%s could not be saved: %s", self._path.name, error)


def _line(task_name: str, state: TaskState) -> bytes:
    """A task's entry of the file."""
    line = f"{json.dumps(task_name)}: {json.dumps(state.model_dump(), ensure_ascii=False)}"
    return line.encode(errors="backslashreplace")
