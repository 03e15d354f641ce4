"""Worker processes that serve one test after the other, since a worker takes longer to start than most jobs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from recserver._internal.core.child_process import child_environment
from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.executors.protocol import OnExportProgress, OnProgress
from recserver._internal.training.export.export_job import ExportJob, ExportResult
from recserver._internal.training.jobs import Preview, PreviewJob, TrainingJob, TrainingResult

T = TypeVar("T")
N_THREADS = 2


class SharedWorkers:
    """A :class:`ProcessExecutor` on an event loop of its own, in a thread that lives as long as the test session.

    Every test has its own event loop, and a process belongs to the loop that started it. Workers keep the
    environment variables and the import path that they started with: if a test changes those, new ones start.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._executor: ProcessExecutor | None = None
        self._environment: dict[str, str] = {}

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        report = _on_this_loop(on_progress)
        return await self._call(lambda executor: executor.run(job, report))

    async def preview(self, job: PreviewJob) -> Preview:
        return await self._call(lambda executor: executor.preview(job))

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        report = _on_this_loop(on_progress)
        return await self._call(lambda executor: executor.export(job, report))

    async def close(self) -> None:
        """Nothing: the workers serve the next test."""

    def shut_down(self) -> None:
        """End all workers."""
        if self._executor is not None:
            asyncio.run_coroutine_threadsafe(self._executor.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _call(self, work: Callable[[ProcessExecutor], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` on the loop of the workers. A cancelled call returns once the work has ended."""
        ended: Future[asyncio.Task[T]] = Future()
        tasks = list[asyncio.Task[T]]()

        def begin() -> None:
            tasks.append(self._loop.create_task(self._with_executor(work)))
            tasks[0].add_done_callback(ended.set_result)

        def cancel() -> None:
            tasks[0].cancel()

        self._loop.call_soon_threadsafe(begin)
        waiting = asyncio.wrap_future(ended)
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self._loop.call_soon_threadsafe(cancel)  # after begin
            await waiting
            raise
        return tasks[0].result()

    async def _with_executor(self, work: Callable[[ProcessExecutor], Coroutine[Any, Any, T]]) -> T:
        environment = child_environment()
        environment.pop("PYTEST_CURRENT_TEST", None)
        if environment != self._environment or self._executor is None:
            if self._executor is not None:
                await self._executor.close()
            self._environment = environment
            self._executor = ProcessExecutor(1, N_THREADS, idle_seconds=3600, priority="low")
        return await work(self._executor)


def _on_this_loop(report: Callable[[T], object]) -> Callable[[T], None]:
    """``report``, to be called on the loop of a test from another thread."""
    loop = asyncio.get_running_loop()
    return lambda progress: loop.call_soon_threadsafe(report, progress) and None
