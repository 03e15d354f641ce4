"""``tasks/{task_name}.json``: one file a task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recserver._internal.core.errors import InvalidInput
from recserver._internal.storage import atomic_files as files
from recserver._internal.training.task import TaskSpec

EXTENSION = ".json"


class TaskStore:
    """The task files of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def names(self) -> list[str]:
        """The names of all tasks, including those of unusable files."""
        return [name.removesuffix(EXTENSION) for name in await files.list_names(self.folder, EXTENSION)]

    async def read_all(self) -> dict[str, TaskSpec | InvalidInput]:
        """Every task as its file describes it, or why the file cannot be used."""
        return await asyncio.to_thread(self._specs, await self.names())

    def _specs(self, task_names: Iterable[str]) -> dict[str, TaskSpec | InvalidInput]:
        found: dict[str, TaskSpec | InvalidInput] = {}
        for name in task_names:
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                found[name] = self._spec(name)
        return found

    def _spec(self, task_name: str) -> TaskSpec | InvalidInput:
        try:
            return TaskSpec.from_file(task_name, files.read_object(self._path(task_name)))
        except InvalidInput as error:
            return error

    async def read(self, task_name: str) -> dict[str, Any]:
        """The content of a task's file, whatever keys it holds.

        Raises:
            FileNotFoundError: if there is none.
            InvalidInput: if it cannot be read, with the reason.
        """
        return await asyncio.to_thread(files.read_object, self._path(task_name))

    async def spec(self, task_name: str) -> TaskSpec | InvalidInput:
        """The task that a file describes, or why the file cannot be used.

        Raises:
            FileNotFoundError: if there is none.
        """
        return await asyncio.to_thread(self._spec, task_name)

    async def displayable(self, task_name: str) -> dict[str, Any]:
        """What can be shown of an unusable task file: the fields of a task, None where one cannot be read."""
        try:
            content = await self.read(task_name)
        except (FileNotFoundError, InvalidInput):
            content = {}
        return {key: content.get(key) for key in TaskSpec.model_fields} | {"task_name": task_name}

    async def write(self, task: TaskSpec, *, keep_unknown_keys: bool) -> None:
        """Write a task. Unknown keys of an existing file are preserved if ``keep_unknown_keys``."""
        content = await self.read(task.task_name) if keep_unknown_keys else {}
        unknown = {name: value for name, value in content.items() if name not in TaskSpec.model_fields}
        text = files.json_bytes(unknown | task.to_file())
        await files.to_thread_shielded(files.write_atomic, self._path(task.task_name), text)

    async def delete(self, task_name: str) -> None:
        """Remove a task's file, if there is one."""
        await files.to_thread_shielded(files.remove_files, [self._path(task_name)])

    def _path(self, task_name: str) -> Path:
        return self.folder / f"{task_name}{EXTENSION}"
