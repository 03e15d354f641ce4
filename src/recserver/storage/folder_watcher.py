"""Looks at folders and says "look again": on a change, and at the latest after a while in any case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from watchfiles import Change, awatch
from watchfiles.main import FileChange

from recserver.core.clock import Clock
from recserver.storage.atomic_files import folder_identity

logger = logging.getLogger(__name__)

EXTENSIONS = (".json", ".pkl", ".yaml")

Identity = tuple[tuple[int, int] | None, ...]


class FolderWatcher:
    """A change is only a reason to look again; what to do about it is decided by what is there then.

    Change reports are a courtesy of the system: a folder that was removed and made again is silent for good,
    and some network disks report nothing. So the folders are watched anew when they are no longer the same
    ones, and looked at every ``rescan`` seconds whatever was reported.
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
            folders: a folder and some of those in it; what lies deeper is not watched.
            rescan: seconds after which the folders are looked at without a report.
            hidden: names of hidden files that matter too.
        """
        self._folders = folders
        self._refresh = refresh
        self._rescan_seconds = rescan_seconds
        self._clock = clock
        self._hidden_names = hidden_names
        self._polling: bool | None = None  # None leaves it to watchfiles
        self._rescan_due = 0.0
        self.ready = asyncio.Event()
        """Set once changes are being watched for, and the folders were looked at since."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._watch()
                continue
            except FileNotFoundError:  # gone since we looked: watch again when it is back
                pass
            except (OSError, RuntimeError) as error:  # no more watches to be had, or a fault in the library
                logger.warning("changes cannot be watched for (%s): the folders are polled instead", error)
                self._polling = True
            await self._clock.wait(asyncio.Event(), self._clock.monotonic() + self._rescan_seconds)
            await self._refresh_safely()

    async def _watch(self) -> None:
        """Watch the folders as they are now; return when they are others."""
        watched = await asyncio.to_thread(self._identities)
        there = [folder for folder, known in zip(self._folders, watched, strict=True) if known is not None]
        reports = awatch(
            *there,
            watch_filter=None,  # else changes that are not ours would put off the rescan for ever
            recursive=False,
            force_polling=self._polling,
            rust_timeout=round(self._rescan_seconds * 1000),
            yield_on_timeout=True,
            step=50,
            debounce=400,
        )
        async with aclosing(reports):
            # Asking for a report begins the watching; what changed before that is seen by looking then.
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
        except Exception:  # what was found there must not end the watching
            logger.exception("looking at the changed files")

    def _identities(self) -> Identity:
        return tuple(map(folder_identity, self._folders))

    def _are_relevant(self, changes: set[FileChange]) -> bool:
        """Whether a change is one of a file of ours, or of a folder."""
        paths = [Path(path) for _, path in changes]
        return any(path in self._folders or self._is_relevant(path.name) for path in paths)

    def _is_relevant(self, name: str) -> bool:
        return name in self._hidden_names or (name.endswith(EXTENSIONS) and not name.startswith("."))

    def _folder_replaced(self, changes: set[FileChange]) -> bool:
        """Whether a folder was removed or made. The one there now may even bear the number of the one before."""
        return any(change != Change.modified and Path(path) in self._folders for change, path in changes)
