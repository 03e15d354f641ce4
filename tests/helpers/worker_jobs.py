"""Ways to see trainings come and go without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.jobs import Progress, TrainingJob, TrainingResult

PLUGINS = Path(__file__).parents[1] / "plugins"

MakeJob = Callable[..., TrainingJob]


class Started:
    """A training under way in a pool."""

    def __init__(self, pool: ProcessExecutor, job: TrainingJob) -> None:
        self.progress: list[Progress] = []
        self._news = asyncio.Event()
        self.task: asyncio.Task[TrainingResult] = asyncio.create_task(pool.run(job, self._note))

    def _note(self, progress: Progress) -> None:
        self.progress.append(progress)
        self._news.set()

    async def has_read(self) -> None:
        """Return once it has read rows."""
        while not any(one.rows_read for one in self.progress):
            self._news.clear()
            news = asyncio.ensure_future(self._news.wait())
            await asyncio.wait((news, self.task), return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            if self.task.done():
                self.task.result()
