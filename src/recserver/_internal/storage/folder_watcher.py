"""Watches folders: calls back on every change, and at regular intervals in any case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path

from watchfiles import Change, awatch
from watchfiles.main import FileChange

from recserver._internal.core.clock import Clock
from recserver._internal.storage.atomic_files import file_identity

logger = logging.getLogger(__name__)

_IS_OURS = ContextVar("recserver_watches", default=False)
"""Whether the asyncio task is one of ours: watchfiles logs every change, which nobody needs in a host's log."""
logging.getLogger("watchfiles.main").addFilter(lambda _: not _IS_OURS.get())

EXTENSIONS = (".json", ".pkl", ".yaml")

Identity = tuple[tuple[int, int] | None, ...]


class FolderWatcher:
    """Calls ``refresh`` when files change; what changed is for ``refresh`` to find out.

    Change notifications are not reliable: a folder that was removed and created again sends none, nor do some
    network disks. So replaced folders are watched anew, and ``refresh`` is called every ``rescan_seconds``.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        refresh: Callable[[], Awaitable[None]],
        rescan_seconds: float,
        clock: Clock,
        hidden_names: frozenset[str] = frozenset(),
    ) -> None:
        """
        Args:
            folders: watched without their subfolders.
            refresh: called after a change.
            rescan_seconds: the longest time between two calls of ``refresh``.
            hidden_names: names of hidden files that are watched too.
        """
        self._folders = folders
        self._refresh = refresh
        self._rescan_seconds = rescan_seconds
        self._clock = clock
        self._hidden_names = hidden_names
        self._polling: bool | None = None  # None: watchfiles decides
        self._rescan_due = 0.0
        self.ready = asyncio.Event()
        """Set once the folders are watched and ``refresh`` was called since."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._watch()
                continue
            except FileNotFoundError:  # a folder was removed meanwhile: watch again when it is back
                pass
            except (OSError, RuntimeError) as error:  # no more watches available, or an error in the library
                logger.warning("changes cannot be watched (%s): the folders are polled instead", error)
                self._polling = True
            await self._clock.wait(asyncio.Event(), self._clock.monotonic() + self._rescan_seconds)
            await self._refresh_safely()

    async def _watch(self) -> None:
        """Watch the present folders; return when one is replaced."""
        _IS_OURS.set(True)
        watched = await asyncio.to_thread(self._identities)
        existing = [
            folder for folder, identity in zip(self._folders, watched, strict=True) if identity is not None
        ]
        reports = awatch(
            *existing,
            watch_filter=None,  # otherwise irrelevant changes would delay the rescan indefinitely
            recursive=False,
            force_polling=self._polling,
            rust_timeout=round(self._rescan_seconds * 1000),
            yield_on_timeout=True,
            step=50,
            debounce=400,
        )
        async with aclosing(reports):
            # Requesting the first report starts the watching; refresh then finds earlier changes.
            report = asyncio.ensure_future(anext(reports))
            try:
                await self._refresh_safely()
                self.ready.set()
                changes: set[FileChange] = set()
                while not self._folder_replaced(changes) and await asyncio.to_thread(self._identities) == watched:
                    changes = await report
                    report = asyncio.ensure_future(anext(reports))
                    if not changes or self._are_relevant(changes) or self._clock.monotonic() >= self._rescan_due:
                        await self._refresh_safely()
            finally:
                report.cancel()
                await asyncio.gather(report, return_exceptions=True)

    async def _refresh_safely(self) -> None:
        self._rescan_due = self._clock.monotonic() + self._rescan_seconds
        try:
            await self._refresh()
        except Exception:  # an error must not end the watching
            logger.exception("reading the changed files failed")

    def _identities(self) -> Identity:
        return tuple(map(file_identity, self._folders))

    def _are_relevant(self, changes: set[FileChange]) -> bool:
        """Whether a change concerns a file of recserver, or a watched folder."""
        paths = [Path(path) for _, path in changes]
        return any(path in self._folders or self._is_relevant(path.name) for path in paths)

    def _is_relevant(self, name: str) -> bool:
        return name in self._hidden_names or (name.endswith(EXTENSIONS) and not name.startswith("."))

    def _folder_replaced(self, changes: set[FileChange]) -> bool:
        """Whether a folder was removed or created. Its inode number alone may be the same as before."""
        return any(change != Change.modified and Path(path) in self._folders for change, path in changes)
