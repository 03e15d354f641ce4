"""Trainings that end when and how a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recserver.algorithms.interactions import Interactions
from recserver.algorithms.lookup import load_algorithm
from recserver.algorithms.protocol import FittedModel
from recserver.core.errors import ExportFailed, RecServerError, SourceUnchanged, TrainingFailed
from recserver.training.executors.protocol import OnExportProgress, OnProgress
from recserver.training.export.export_job import ExportJob, ExportProgress, ExportResult
from recserver.training.export.export_worker import export
from recserver.training.jobs import Preview, PreviewJob, Progress, TrainingJob, TrainingResult
from recserver.training.preview.source_preview import preview
from recserver.training.worker.train import finish_training, training_digest


@dataclass(slots=True, eq=False)
class ScriptedTraining:
    """A training under way in a :class:`ScriptedExecutor`. It goes on until it is told how to end."""

    job: TrainingJob
    on_progress: OnProgress
    cancelled: bool = False
    """Whether recserver ended it."""
    tamper: Callable[[Path], object] | None = None
    """What happens to the packed file of a training that ends well, before recserver sees it."""
    _ending: asyncio.Future[Callable[[], TrainingResult]] = field(default_factory=asyncio.Future)

    def progress(self, stage: str, rows_read: int = 0) -> None:
        """Tell how far it is."""
        self.on_progress(Progress(stage=stage, rows_read=rows_read))

    def finish(self, interactions: Interactions | None = None) -> None:
        """End well, with a real packed model of ``interactions``; without them it is :func:`few_interactions`.

        As a real training does, it ends as unchanged if the last one learned from the same.
        """
        learned = few_interactions() if interactions is None else interactions

        def ending() -> TrainingResult:
            result = _pack_result(self.job, learned)
            if self.tamper is not None:
                self.tamper(self.job.out)
            return result

        self._ending.set_result(ending)

    def fail(self, error: str | Exception = "The source is away.") -> None:
        """End with a TrainingFailed of that sentence, or by raising that exception."""

        def ending() -> TrainingResult:
            raise TrainingFailed(error) if isinstance(error, str) else error

        self._ending.set_result(ending)


class ScriptedExecutor:
    """An :class:`~recserver.training.executors.protocol.Executor` that trains nothing: the test ends each
    training by hand.
    """

    def __init__(self) -> None:
        self.trainings: list[ScriptedTraining] = []
        """Every training begun so far, oldest first."""
        self.running: list[ScriptedTraining] = []
        """Those that have not ended."""
        self._handed_out = 0
        self._started = asyncio.Condition()

    @property
    def started_count(self) -> int:
        """How many trainings were begun so far."""
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
        """Look at the source as a worker would, in a thread of this process."""
        return await asyncio.to_thread(preview, job)

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        """Export as a worker would, in a thread of this process, which cancelling does not end."""
        loop = asyncio.get_running_loop()

        def report(progress: ExportProgress) -> None:
            loop.call_soon_threadsafe(on_progress, progress)

        try:
            return await asyncio.to_thread(export, job, report)
        except RecServerError as failure:
            raise ExportFailed(str(failure)) from None

    async def next(self) -> ScriptedTraining:
        """The first training that was not handed out yet; waits for it to begin."""
        async with self._started:
            await self._started.wait_for(lambda: self._handed_out < len(self.trainings))
        self._handed_out += 1
        return self.trainings[self._handed_out - 1]

    async def close(self) -> None:
        """Nothing is left to end."""


def few_interactions(users: int = 3, items: int = 4) -> Interactions:
    """Up to ten users and items: ``u0`` interacted with ``i0``, ``u1`` with ``i0`` and ``i1``, and so on."""
    rows = [(user, item) for user in range(users) for item in range(min(user + 1, items))]
    counts = np.bincount([user for user, _ in rows], minlength=users)
    return Interactions(
        users=[f"u{user}" for user in range(users)],
        items=[f"i{item}" for item in range(items)],
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=np.array([item for _, item in rows], np.int32),
        ratings=np.ones(len(rows), np.float32),
        rows_used=len(rows),
    )


def _pack_result(job: TrainingJob, interactions: Interactions) -> TrainingResult:
    """What a training would make of ``interactions``, with factors that are cheap instead of fitted."""
    digest = training_digest(job, interactions)
    if digest == job.previous_digest:
        raise SourceUnchanged("The data and the hyperparameters are those of the last training.")
    users = np.ones((len(interactions.users), 1), np.float32)
    items = np.linspace(1, 0.5, len(interactions.items), dtype=np.float32).reshape(-1, 1)
    factors = FittedModel(users, items, dict(job.hyperparameters), {"n_components": 1})
    return finish_training(job, load_algorithm(job.algorithm), interactions, factors, digest)
