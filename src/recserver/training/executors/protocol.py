"""Executors: where trainings and exports run, and sources are looked at. This front holds only the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from recserver.training.export.export_job import ExportJob, ExportProgress, ExportResult
from recserver.training.jobs import Preview, PreviewJob, Progress, TrainingJob, TrainingResult

PREVIEW_SECONDS = 30.0
"""How long a preview may take, the start of what it runs in included."""

OnProgress = Callable[[Progress], None]
OnExportProgress = Callable[[ExportProgress], None]


class Executor(Protocol):
    """What is slow, beside the event loop: trainings, looks at the first rows of sources, exports."""

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        """Train, and tell how far it is. Waits while all places are taken.

        Cancelling the call ends the training: once the cancellation comes out of it, nothing of it runs.

        Raises:
            TrainingFailed: with the reason.
            WorkerDied: if what ran the training went away.
        """
        ...

    async def preview(self, job: PreviewJob) -> Preview:
        """Look at the first rows of a source, without waiting for any training.

        Cancelling the call ends the look.

        Raises:
            SourceFailed: with the reason; also if it takes longer than :data:`PREVIEW_SECONDS`.
        """
        ...

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        """Export recommendations, and tell how far it is. Waits for other exports, and for no training.

        Cancelling the call ends the export: once the cancellation comes out of it, nothing of it runs.

        Raises:
            ExportFailed: with the reason.
        """
        ...

    async def close(self) -> None:
        """End everything that still runs. No other call may follow."""
        ...
