"""The protocol of executors, which run trainings, previews and exports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from recserver._internal.training.export.export_job import ExportJob, ExportProgress, ExportResult
from recserver._internal.training.jobs import Preview, PreviewJob, Progress, TrainingJob, TrainingResult

PREVIEW_SECONDS = 30.0
"""Seconds that a preview may take, the start of its worker included."""

OnProgress = Callable[[Progress], None]
OnExportProgress = Callable[[ExportProgress], None]


class Executor(Protocol):
    """Runs slow work outside of the event loop: trainings, previews and exports."""

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        """Train, and report progress. Waits while all slots are taken.

        Cancelling the call ends the training: when the call returns, nothing of it runs any more.

        Raises:
            TrainingFailed: with the reason.
            WorkerDied: if the worker of the training ended.
        """

    async def preview(self, job: PreviewJob) -> Preview:
        """Read the first rows of a source, without waiting for any training.

        Cancelling the call ends the preview.

        Raises:
            SourceFailed: with the reason; also if it takes longer than :data:`PREVIEW_SECONDS`.
        """

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        """Export recommendations, and report progress. Waits for other exports, not for trainings.

        Cancelling the call ends the export: when the call returns, nothing of it runs any more.

        Raises:
            ExportFailed: with the reason.
        """

    async def close(self) -> None:
        """End everything that still runs. The executor cannot be used afterwards."""
