"""Trainings in the calling process: for tests and one-off use, never in a server that answers requests."""

from __future__ import annotations

from collections.abc import Callable

from recserver.executors import OnProgress
from recserver.specs.jobs import TrainingJob, TrainingResult


class InlineExecutor:
    """Calls the training function directly. The event loop stands still meanwhile."""

    def __init__(self, train: Callable[[TrainingJob, OnProgress], TrainingResult]) -> None:
        self._train = train

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        return self._train(job, on_progress)

    async def close(self) -> None:
        """Nothing is left to end."""
