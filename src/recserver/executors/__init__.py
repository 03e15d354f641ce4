"""Executors: where trainings run. This front holds only the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from recserver.specs.jobs import Progress, TrainingJob, TrainingResult

OnProgress = Callable[[Progress], None]


class Executor(Protocol):
    """Runs trainings beside the event loop."""

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        """Train, and tell how far it is. Waits while all places are taken.

        Cancelling the call ends the training: once the cancellation comes out of it, nothing of it runs.

        Raises:
            TrainingFailed: with the reason.
            WorkerDied: if what ran the training went away.
        """
        ...

    async def close(self) -> None:
        """End everything that still runs. No ``run`` may follow."""
        ...
