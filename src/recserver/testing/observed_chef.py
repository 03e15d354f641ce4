"""How the conformance suite looks at a data chef: what it reads, what it touches, what it keeps open."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recserver.chefs.protocol import Batch, Chef, RestartRead

MAX_RESTARTS = 5
"""A chef that starts over more often than this never comes to an end."""

_EXTERNAL_EVENTS = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.sendto", "sqlite3.connect", "subprocess.Popen"}
)
_FILE_EVENTS = frozenset({"open", "os.listdir", "os.scandir"})


def check(condition: object, message: str) -> None:
    """Raise an AssertionError with that sentence unless ``holds``. Unlike ``assert``, ``python -O`` keeps it."""
    __tracebackhide__ = True
    if not condition:
        raise AssertionError(message)


def is_sentence(text: object) -> bool:
    """Whether people can read it as one: a line of several words with a mark at its end."""
    if not isinstance(text, str) or "\n" in text or "Traceback" in text:
        return False
    return " " in text and not text[:1].isspace() and text.endswith((".", "!", "?"))


@dataclass(slots=True)
class Reading:
    """One way through a source.

    Attributes:
        batches: as they came, after the last start.
        starts_over: how often the chef asked to forget what it had given.
    """

    batches: list[Batch] = field(default_factory=list)
    restarts: int = 0

    def values(self, name: str) -> list[Any]:
        """One column of all batches; None in those that lack it."""
        found: list[Any] = []
        for batch in self.batches:
            column = batch.columns.get(name)
            found += [None] * batch.n_rows if column is None else _to_list(column)
        return found

    def names(self) -> set[str]:
        """Names of all columns that were given."""
        return {name for batch in self.batches for name in batch.columns}


def read(chef: Chef, columns: Collection[str] | None) -> Reading:
    """Everything that the chef gives, whatever it looks like."""
    reading = Reading()
    while True:
        try:
            reading.batches = list(chef.batches(columns))
        except RestartRead:
            reading.restarts += 1
            check(reading.restarts < MAX_RESTARTS, "The chef raises StartOver without end.")
        else:
            return reading


def close(batches: Iterator[Batch]) -> None:
    """Close an iterator as the worker does; those that are no generators may lack ``close``."""
    closing = getattr(batches, "close", None)
    if closing is not None:
        closing()


def open_files() -> int:
    """How many files and sockets this process holds open; 0 where the system does not tell."""
    gc.collect()  # what earlier tests forgot to close is not this chef's
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 - of names alone, as it changes while one looks
    except OSError:
        return 0


@contextmanager
def environment_variable(name: str, value: str | None) -> Iterator[None]:
    """An environment variable that has this value meanwhile, or is not set."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


class _AuditWatch:
    """Python's own reports of what a process does. They can be listened to only for good, so it is one for all."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.touched: list[str] = []
        self._is_started = False

    def start(self) -> None:
        """Begin, if it has not begun."""
        if not self._is_started:
            sys.addaudithook(self._on_event)
            self._is_started = True

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _EXTERNAL_EVENTS:
            self.touched.append(event)
        elif event in _FILE_EVENTS and arguments and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if path.startswith(str(self.folder)):
                self.touched.append(f"{event} of {path}")


_watch = _AuditWatch()


@contextmanager
def watch_access(folder: Path) -> Iterator[list[str]]:
    """What is done meanwhile in ``folder``, over the network or by other programs, as far as Python tells."""
    _watch.start()
    _watch.folder, _watch.touched = folder, []
    try:
        yield _watch.touched
    finally:
        _watch.folder = None


def as_text(values: Iterable[Any]) -> list[str]:
    """Ids as people write them."""
    return [str(one) for one in values]


def replace_text(entry: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """``entry`` with ``new`` in the place of ``old`` wherever it stands."""

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(old, new)
        if isinstance(value, Mapping):
            return {name: replaced(one) for name, one in value.items()}
        return [replaced(one) for one in value] if isinstance(value, list | tuple) else value

    return {name: replaced(value) for name, value in entry.items()}


def _to_list(column: Any) -> list[Any]:
    for name in ("to_pylist", "tolist"):
        if hasattr(column, name):
            return list(getattr(column, name)())
    return list(column)
