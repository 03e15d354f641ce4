"""Trainings, previews and exports in worker processes: Python interpreters that take jobs as lines of JSON.

Five requirements decide the design (docs/decisions/001-worker-processes.md): a cancelled training's process ends
at once; a dead worker fails only its own job; no worker outlives a killed server; a host script without a
main guard works; an idle worker costs little.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from recserver._internal.core.child_process import child_environment
from recserver._internal.core.errors import (
    ExportFailed,
    RecServerError,
    SourceFailed,
    SourceUnchanged,
    TrainingFailed,
    WorkerDied,
)
from recserver._internal.training.executors.messages import decode, encode
from recserver._internal.training.executors.protocol import PREVIEW_SECONDS, OnExportProgress, OnProgress
from recserver._internal.training.executors.worker_slots import WorkerSlots
from recserver._internal.training.export.export_job import ExportJob, ExportProgress, ExportResult
from recserver._internal.training.jobs import (
    CandidateJob,
    CandidateResult,
    Preview,
    PreviewJob,
    Progress,
    TrainingJob,
    TrainingResult,
)

IDLE_SECONDS = 60.0
"""How long a worker without a job stays alive: its next job starts a second sooner."""

MAX_LINE_BYTES = 2**20
"""Bytes of one message. A preview shows fewer rows where they are large."""

MAX_PREVIEWS = 2
"""Previews that run at the same time, besides trainings."""

MAX_EXPORTS = 2
"""Exports that run at the same time, besides trainings."""

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT", bound=BaseModel)
ProgressT = TypeVar("ProgressT", bound=BaseModel)
OnWorkerProgress = Callable[[Any], object]
"""Called with the content of each ``progress`` message."""


class ProcessExecutor:
    """Up to ``size`` worker processes, started when needed."""

    def __init__(
        self,
        size: int,
        threads_each: int = 1,
        *,
        idle_seconds: float = IDLE_SECONDS,
        preview_seconds: float = PREVIEW_SECONDS,
        priority: str = "idle",
        stderr: int | None = None,
    ) -> None:
        """
        Args:
            priority: ``idle`` or ``low``; see :class:`recserver._internal.server.settings.Settings`.
            size: trainings that run at the same time.
            threads_each: threads that numerical libraries may use in one training.
            idle_seconds: how long a worker without a job stays alive.
            preview_seconds: how long a preview may take, and how long it may wait for its slot.
            stderr: where the workers' standard error goes, such as ``DEVNULL``; None for this process's own.
        """
        self._training_slots = WorkerSlots(size)
        self._preview_slots = asyncio.Semaphore(MAX_PREVIEWS)
        self._export_slots = asyncio.Semaphore(MAX_EXPORTS)
        self._preview_seconds = preview_seconds
        self._threads_each = threads_each
        self._priority, self._stderr = priority, stderr
        self._idle_seconds = idle_seconds
        self._busy: set[Process] = set()
        self._idle: dict[Process, asyncio.TimerHandle] = {}
        self._retiring: set[Process] = set()

    @property
    def pids(self) -> list[int]:
        """Process ids of all live workers."""
        return [worker.pid for worker in self._all_workers() if worker.returncode is None]

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        async with self._training_slots.acquire(
            lambda position: on_progress(Progress(stage="waiting", queue_position=position))
        ):
            on_progress(Progress(stage="starting"))
            try:
                async with asyncio.timeout(job.time_limit):
                    with_threads = job.model_copy(update={"threads": self._threads_each})
                    return await self._run_job(
                        "training", with_threads, TrainingResult, _parsed(Progress, on_progress)
                    )
            except TimeoutError:
                raise TrainingFailed(
                    f"The training took longer than its limit of {job.time_limit:g} seconds and was ended: GET "
                    "/get_run says where the time went; the task's time_limit or RECSERVER_TRAINING_TIME_LIMIT "
                    "allows more."
                ) from None

    async def preview(self, job: PreviewJob) -> Preview:
        seconds = f"{self._preview_seconds:g} seconds"
        try:
            async with asyncio.timeout(self._preview_seconds):
                await self._preview_slots.acquire()
        except TimeoutError:
            raise SourceFailed(
                f"{MAX_PREVIEWS} other previews are under way and did not end within {seconds}: try again later."
            ) from None
        try:
            async with asyncio.timeout(self._preview_seconds):
                return await self._run_job("preview", job, Preview, lambda _: None)
        except TimeoutError:
            raise SourceFailed(
                f"The source gave too few rows within {seconds}, so the preview was ended: check that it answers, "
                "or request fewer rows."
            ) from None
        except TrainingFailed as failure:
            raise SourceFailed(str(failure)) from None
        finally:
            self._preview_slots.release()

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        async with self._export_slots:
            try:
                return await self._run_job("export", job, ExportResult, _parsed(ExportProgress, on_progress))
            except TrainingFailed as failure:
                raise ExportFailed(str(failure)) from None

    async def evaluate_candidate(self, job: CandidateJob, on_progress: OnProgress) -> CandidateResult:
        """Fit and measure one algorithm of a comparison.

        Raises:
            TrainingFailed: with the reason; if ``is_internal``, its note is the traceback of the error.
            WorkerDied: if the worker process ended.
        """
        return await self._run_job("candidate", job, CandidateResult, _parsed(Progress, on_progress))

    async def close(self) -> None:
        for timer in self._idle.values():
            timer.cancel()
        await asyncio.gather(*(_kill(worker) for worker in self._all_workers()))
        self._idle.clear()

    async def _run_job(
        self, kind: str, job: BaseModel, result_type: type[ResultT], on_progress: OnWorkerProgress
    ) -> ResultT:
        """Run one job, in an idle worker if there is one."""
        while True:
            idle = self._take_idle()
            worker = idle or await self._start_worker()
            self._busy.add(worker)
            try:
                result = await _exchange_messages(worker, kind, job, result_type, on_progress)
            except WorkerDied as death:
                await _kill(worker)
                if idle is None or not isinstance(death, _DiedBeforeJob):
                    raise
                logger.info("an idle worker process had ended: taking another")
            except RecServerError:
                self._make_idle(worker)
                raise
            except BaseException:  # above all a cancelled call: its process must have ended when it returns
                await asyncio.shield(_kill(worker))
                raise
            else:
                self._make_idle(worker)
                return result
            finally:
                self._busy.discard(worker)

    async def _start_worker(self) -> Process:
        thread_limits = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "recserver._internal.training.worker", str(os.getpid()), self._priority),
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._stderr,
            limit=MAX_LINE_BYTES,
            env=child_environment() | dict.fromkeys(thread_limits, str(self._threads_each)),
        )

    def _take_idle(self) -> Process | None:
        while self._idle:
            worker, timer = self._idle.popitem()
            timer.cancel()
            if worker.returncode is None:
                return worker
        return None

    def _make_idle(self, worker: Process) -> None:
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._retire, worker)
        self._idle[worker] = timer

    def _retire(self, worker: Process) -> None:
        del self._idle[worker]
        self._retiring = {other for other in self._retiring if other.returncode is None} | {worker}
        if worker.stdin is not None:
            worker.stdin.close()  # the process ends with its input

    def _all_workers(self) -> tuple[Process, ...]:
        return *self._busy, *self._idle, *self._retiring


def _parsed(progress_type: type[ProgressT], on_progress: Callable[[ProgressT], None]) -> OnWorkerProgress:
    return lambda content: on_progress(progress_type.model_validate(content))


class _DiedBeforeJob(WorkerDied):
    """A worker ended before it took the job."""


async def _exchange_messages(
    worker: Process, kind: str, job: BaseModel, result_type: type[ResultT], on_progress: OnWorkerProgress
) -> ResultT:
    """Send ``job`` to ``worker`` and read its messages up to the last one."""
    if worker.stdin is None or worker.stdout is None:
        raise WorkerDied("The worker process has no pipes: this is an internal error of recserver.")
    taken = False
    try:
        worker.stdin.write(encode(kind, job.model_dump(mode="json")).encode())
        await worker.stdin.drain()
        while line := await worker.stdout.readline():
            taken = True
            message, content = decode(line)
            if message == "progress":
                on_progress(content)
            elif message == "result":
                return result_type.model_validate(content)
            else:
                raise _error_from_message(kind, getattr(job, "run_id", ""), message, content)
    except ConnectionError:
        pass  # the worker ended, as at the end of its output
    raise (WorkerDied if taken else _DiedBeforeJob)(_exit_message(kind, await worker.wait()))


def _error_from_message(kind: str, run_id: str, message: str, content: dict[str, Any]) -> RecServerError:
    if message == "crashed":
        if kind != "candidate":  # a comparison on the command line shows the reason itself
            logger.error("%s %s raised %s\n%s", kind, run_id, content["error"], content["traceback"])
        crash = TrainingFailed(
            f"The {kind} raised {content['error']}, an internal error of recserver or a plug-in: the server's log "
            "has the details.",
            is_internal=True,
        )
        crash.add_note(content["traceback"])
        return crash
    code, error, data_report = content["code"], content["error"], content.get("data_report")
    if code == SourceUnchanged.code:
        return SourceUnchanged(error, data_report)
    retry = {name: content[name] for name in ("transient", "retry_after") if name in content}
    return (SourceFailed if code == SourceFailed.code else TrainingFailed)(error, data_report, **retry)


def _exit_message(kind: str, status: int) -> str:
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    hint = "; signal 9 often means that the machine ran out of memory" if status == -9 else ""
    return f"The worker process {how} before the {kind} ended{hint}."


async def _kill(worker: Process) -> None:
    if worker.returncode is None:
        try:
            worker.kill()
        except ProcessLookupError:
            return
        await asyncio.to_thread(_restore_priority, worker.pid)
    await worker.wait()


def _restore_priority(pid: int) -> None:
    """Give a killed process processor time, which it needs to end.

    An ``idle`` worker gets only what all other processes leave: on a busy machine its end takes seconds. Only a
    privileged server may raise the priority; otherwise the process ends when it gets processor time.
    """
    with contextlib.suppress(OSError):  # not Linux, not allowed, or ended already
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - only names are needed
            os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))
