"""How the conformance suite observes a data chef: what it reads, accesses and leaves open."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from recserver._internal.chefs.protocol import Batch, Chef, RestartRead
from recserver.testing._checks import check

MAX_RESTARTS = 5
"""A chef that raises RestartRead more often counts as one that never ends."""

_EXTERNAL_EVENTS = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.sendto", "sqlite3.connect", "subprocess.Popen"}
)
_FILE_EVENTS = frozenset({"open", "os.listdir", "os.scandir"})


@dataclass(slots=True)
class Reading:
    """The result of reading a source once.

    Attributes:
        batches: in their order, since the last restart.
        restarts: how often the chef raised RestartRead.
    """

    batches: list[Batch] = field(default_factory=list)
    restarts: int = 0

    def values(self, name: str) -> list[Any]:
        """One column of all batches; None for the rows of batches without it."""
        values: list[Any] = []
        for batch in self.batches:
            column = batch.columns.get(name)
            values += [None] * batch.n_rows if column is None else _to_list(column)
        return values

    def names(self) -> set[str]:
        """Names of all columns in the batches."""
        return {name for batch in self.batches for name in batch.columns}


def read(chef: Chef, columns: Collection[str] | None) -> Reading:
    """Read everything that the chef yields, without validating it."""
    reading = Reading()
    while True:
        try:
            reading.batches = list(chef.batches(columns))
        except RestartRead:
            reading.restarts += 1
            check(reading.restarts < MAX_RESTARTS, "The chef raises RestartRead again and again.")
        else:
            return reading


def close(batches: Iterator[Batch]) -> None:
    """Close an iterator as the worker does; iterators that are not generators may lack ``close``."""
    close_method = getattr(batches, "close", None)
    if close_method is not None:
        close_method()


def open_files() -> int:
    """The number of files and sockets that this process has open; 0 where the system does not list them."""
    gc.collect()  # unreferenced files of earlier tests are not this chef's
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 - only names: the folder changes while it is read
    except OSError:
        return 0


@contextmanager
def environment_variable(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable, or unset it for None, while the block runs."""
    with patch.dict(os.environ):
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
        yield


class _AuditWatch:
    """Records audit events of the process. Audit hooks cannot be removed, so there is one for all tests."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.accesses: list[str] = []
        self._is_started = False

    def start(self) -> None:
        if not self._is_started:
            sys.addaudithook(self._on_event)
            self._is_started = True

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _EXTERNAL_EVENTS:
            self.accesses.append(event)
        elif event in _FILE_EVENTS and arguments and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if path.startswith(str(self.folder)):
                self.accesses.append(f"{event} of {path}")


_watch = _AuditWatch()


@contextmanager
def watch_access(folder: Path) -> Iterator[list[str]]:
    """A list of accesses to ``folder``, the network and other programs while the block runs.

    It holds those that Python reports as audit events; C libraries need not report theirs.
    """
    _watch.start()
    _watch.folder, _watch.accesses = folder, []
    try:
        yield _watch.accesses
    finally:
        _watch.folder = None


def as_text(values: Iterable[Any]) -> list[str]:
    """Ids as text."""
    return [str(value) for value in values]


def replace_text(entry: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """``entry`` with ``old`` replaced by ``new`` in all of its strings."""

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(old, new)
        if isinstance(value, Mapping):
            return {name: replaced(element) for name, element in value.items()}
        return [replaced(element) for element in value] if isinstance(value, list | tuple) else value

    return {name: replaced(value) for name, value in entry.items()}


def _to_list(column: Any) -> list[Any]:
    for name in ("to_pylist", "tolist"):
        if hasattr(column, name):
            return list(getattr(column, name)())
    return list(column)
