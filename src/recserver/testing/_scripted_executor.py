"""Trainings that end when and how a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recserver._internal.algorithms.interactions import Interactions, to_indptr
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import FittedModel
from recserver._internal.core.errors import ExportFailed, RecServerError, SourceUnchanged, TrainingFailed
from recserver._internal.training.executors.protocol import OnExportProgress, OnProgress
from recserver._internal.training.export.export_job import ExportJob, ExportProgress, ExportResult
from recserver._internal.training.export.export_worker import export
from recserver._internal.training.jobs import Preview, PreviewJob, Progress, TrainingJob, TrainingResult
from recserver._internal.training.preview.source_preview import preview
from recserver._internal.training.worker.train import finish_training, training_digest


@dataclass(slots=True, eq=False)
class ScriptedTraining:
    """A training in a :class:`ScriptedExecutor`. It runs until the test ends it."""

    job: TrainingJob
    on_progress: OnProgress
    cancelled: bool = False
    """Whether recserver cancelled it."""
    tamper: Callable[[Path], object] | None = None
    """Called with the packed file of a training that completes, before recserver reads it."""
    _ending: asyncio.Future[Callable[[], TrainingResult]] = field(default_factory=asyncio.Future)

    def progress(self, stage: str, rows_read: int = 0) -> None:
        """Report progress."""
        self.on_progress(Progress(stage=stage, rows_read=rows_read))

    def finish(self, interactions: Interactions | None = None, *, warnings: Sequence[str] = ()) -> None:
        """Complete with a packed model of ``interactions``, by default :func:`few_interactions`.

        Like a real training it ends as unchanged if the last training had the same data.

        Args:
            warnings: of the training, one sentence each.
        """
        data = few_interactions() if interactions is None else interactions

        def ending() -> TrainingResult:
            result = _pack_result(self.job, data).model_copy(update={"warnings": list(warnings)})
            if self.tamper is not None:
                self.tamper(self.job.out)
            return result

        self._ending.set_result(ending)

    def fail(self, error: str | Exception = "The source is unavailable.") -> None:
        """Fail with a TrainingFailed with this sentence, or with this exception."""

        def ending() -> TrainingResult:
            raise TrainingFailed(error) if isinstance(error, str) else error

        self._ending.set_result(ending)


class ScriptedExecutor:
    """An :class:`~recserver._internal.training.executors.protocol.Executor` whose trainings the test ends."""

    def __init__(self) -> None:
        self.trainings: list[ScriptedTraining] = []
        """All trainings started so far, oldest first."""
        self.running: list[ScriptedTraining] = []
        """Trainings that have not ended."""
        self._returned = 0
        self._started = asyncio.Condition()

    @property
    def started_count(self) -> int:
        """The number of trainings started so far."""
        return len(self.trainings)

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        training = ScriptedTraining(job, on_progress)
        self.running.append(training)
        self.trainings.append(training)
        try:
            async with self._started:
                self._started.notify_all()
            training.progress("fitting")
            ending = await training._ending
            return await asyncio.to_thread(ending)
        except asyncio.CancelledError:
            training.cancelled = True
            raise
        finally:
            self.running.remove(training)

    async def preview(self, job: PreviewJob) -> Preview:
        """Read the source as a worker does, in a thread of this process."""
        return await asyncio.to_thread(preview, job)

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        """Export as a worker does, in a thread of this process. Cancelling does not stop the thread."""
        loop = asyncio.get_running_loop()

        def report(progress: ExportProgress) -> None:
            loop.call_soon_threadsafe(on_progress, progress)

        try:
            return await asyncio.to_thread(export, job, report)
        except RecServerError as error:
            raise ExportFailed(str(error)) from None

    async def next(self) -> ScriptedTraining:
        """The next training that this method has not returned yet; waits for it to start."""
        async with self._started:
            await self._started.wait_for(lambda: self._returned < len(self.trainings))
        self._returned += 1
        return self.trainings[self._returned - 1]

    async def close(self) -> None:
        """Do nothing."""


def few_interactions(users: int = 3, items: int = 4) -> Interactions:
    """Up to ten users and items: ``u0`` interacted with ``i0``, ``u1`` with ``i0`` and ``i1``, and so on."""
    rows = [(user, item) for user in range(users) for item in range(min(user + 1, items))]
    counts = np.bincount([user for user, _ in rows], minlength=users)
    return Interactions(
        users=[f"u{user}" for user in range(users)],
        items=[f"i{item}" for item in range(items)],
        indptr=to_indptr(counts),
        indices=np.array([item for _, item in rows], np.int32),
        ratings=np.ones(len(rows), np.float32),
        rows_used=len(rows),
    )


def _pack_result(job: TrainingJob, interactions: Interactions) -> TrainingResult:
    """The result of a training with ``interactions``, with trivial factors instead of fitted ones."""
    digest = training_digest(job, interactions)
    if digest == job.previous_digest:
        raise SourceUnchanged("The data and the hyperparameters have not changed since the last training.")
    users = np.ones((len(interactions.users), 1), np.float32)
    items = np.linspace(1, 0.5, len(interactions.items), dtype=np.float32).reshape(-1, 1)
    model = FittedModel(users, items, dict(job.hyperparameters), {"n_components": 1})
    return finish_training(job, load_algorithm(job.algorithm), interactions, model, digest)
