"""Exports of recommendations to a file or a table, complete or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from recserver._internal.core.background_tasks import BackgroundTasks
from recserver._internal.core.clock import Clock
from recserver._internal.core.errors import Draining, ExportFailed, ExportInProgress, RecServerError, os_error_text
from recserver._internal.storage.atomic_files import replace_durably, to_thread_shielded, unlink_quietly
from recserver._internal.training.active_run import INTERNAL_ERROR
from recserver._internal.training.executors.protocol import Executor
from recserver._internal.training.export.export_job import ExportJob, ExportProgress, ExportResult, FileTarget

HEARTBEAT_SECONDS = 2.0
"""Seconds after which an export without new progress sends it again, to detect that the client disconnected."""

logger = logging.getLogger(__name__)


class Export:
    """An export under way.

    Attributes:
        progress: None before it has started.
        result: or its error; None while it is under way.
    """

    def __init__(self, clock: Clock) -> None:
        self.progress: ExportProgress | None = None
        self.result: ExportResult | RecServerError | None = None
        self._clock = clock
        self._updated = asyncio.Event()

    def update(self, progress: ExportProgress) -> None:
        """Set the progress."""
        self.progress = progress
        self._updated.set()

    def finish(self, result: ExportResult | RecServerError) -> None:
        """Set the result, if there is none yet."""
        self.result = self.result or result
        self._updated.set()

    async def wait_until_started(self) -> None:
        """Return once the job has been checked.

        Raises:
            RecServerError: why it ended before that.
        """
        while self.progress is None and self.result is None:
            await self.wait_for_update()
        if isinstance(self.result, RecServerError):
            raise self.result

    async def wait_for_update(self) -> None:
        """Return after an update, or if there was none for :data:`HEARTBEAT_SECONDS`."""
        await self._clock.wait(self._updated, self._clock.monotonic() + HEARTBEAT_SECONDS)
        self._updated.clear()


class Exporter:
    """Runs exports, at most one at a time to the same place."""

    def __init__(self, executor: Executor, background: BackgroundTasks, clock: Clock) -> None:
        self._executor, self._background, self._clock = executor, background, clock
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """The exports under way."""
        return list(self._running.values())

    @asynccontextmanager
    async def export(self, job: ExportJob, destination: str, file: Path | None) -> AsyncIterator[Export]:
        """Run an export while the block lasts; it is cancelled if the block ends first.

        Args:
            destination: equal for exports that must not run at the same time.
            file: the final path of its file, or its SQLite database; None for a table elsewhere.

        Raises:
            ExportInProgress: if there is one to the same destination.
        """
        if destination in self._running:
            raise ExportInProgress(
                "Another export to the same place is under way: wait for it, or name another place."
            )
        export = Export(self._clock)
        work = self._background.start(partial(self._run, export, job, file), f"export of {job.model_id}")
        self._running[destination] = work

        def ended(_: asyncio.Task[None]) -> None:
            del self._running[destination]
            export.finish(Draining("The server is closing, and the export was cancelled: try again."))

        work.add_done_callback(ended)
        try:
            yield export
        finally:
            await _cancel(work)

    async def stop(self) -> None:
        """Cancel all exports, and wait until they have ended."""
        await asyncio.gather(*map(_cancel, self.running))

    async def _run(self, export: Export, job: ExportJob, file: Path | None) -> None:
        """Run an export. A partial result is removed however it ends."""
        try:
            ending = await self._perform(export, job, file)
        finally:
            await _clean_up(job, file)
        export.finish(ending)

    async def _perform(self, export: Export, job: ExportJob, file: Path | None) -> ExportResult | RecServerError:
        try:
            result = await self._executor.export(job, export.update)
            if isinstance(job.target, FileTarget) and file is not None:
                await to_thread_shielded(replace_durably, job.target.out, file)
        except RecServerError as error:
            logger.warning("export of model %s failed: %s", job.model_id, error)
            return error
        except OSError as error:
            return ExportFailed(
                f"The file could not be renamed to its final name ({os_error_text(error)}): check the disk."
            )
        except Exception:
            logger.exception("export of model %s", job.model_id)
            return ExportFailed(INTERNAL_ERROR)
        logger.info(
            "exported: model %s, version %d, %d rows, %.1f s",
            job.model_id, result.model_version, result.rows, result.seconds,
        )  # fmt: skip
        return result


async def _clean_up(job: ExportJob, file: Path | None) -> None:
    if isinstance(job.target, FileTarget):
        await to_thread_shielded(unlink_quietly, job.target.out)
    elif file is not None:
        from recserver._internal.training.export.sqlite_export import roll_back_unfinished

        await to_thread_shielded(roll_back_unfinished, file)


async def _cancel(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.wait([work])
