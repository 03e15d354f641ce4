"""Operations on the scheduler, and the health check."""

from __future__ import annotations

from recserver._internal.core.errors import Draining
from recserver._internal.core.validation.values import Bool, Timeout
from recserver._internal.results.scheduler import (
    Health,
    RestartedScheduler,
    SchedulerState,
    SchedulerStatus,
    StoppedScheduler,
)
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.services import Operations
from recserver._internal.server.service.tasks import readable_tasks

PAUSED_REASON = "The task is paused: POST /resume_task resumes it."


class SchedulerOperations(Operations):
    """Start, stop and inspect the scheduler. It starts with the server and follows all changes by itself."""

    tag = "Scheduler"

    @operation("POST", scope="train", changes="running")
    async def restart_scheduler(self, *, timeout: Timeout = 0) -> RestartedScheduler:
        """Read all models and tasks again, and start the scheduler if it was stopped.

        Args:
            timeout: accepted, and has no effect: running trainings are left alone.
        """
        scheduler, runner = self._services.scheduler, self._services.runner
        await self._services.model_cache.refresh()
        await scheduler.start()
        skipped = dict(scheduler.file_errors)
        tasks = await readable_tasks(runner)
        skipped |= {name: PAUSED_REASON for name, spec in tasks.items() if not spec.enabled}
        specs = {name: loop.spec for name in scheduler.task_names if (loop := scheduler.loop(name))}
        for name, spec in specs.items():
            if reason := await runner.blocking_reason(spec):
                skipped[name] = reason
        scheduled = len(specs.keys() - skipped.keys())
        omitted = f" and skips {len(skipped)}: see tasks_skipped" if skipped else ""
        return RestartedScheduler(
            message=f"The scheduler runs {scheduled} task{'' if scheduled == 1 else 's'}{omitted}.",
            is_running=True,
            tasks_scheduled=scheduled,
            tasks_skipped=skipped,
        )

    @operation("POST", scope="train", changes="running", example={"timeout": 30})
    async def stop_scheduler(self, *, timeout: Timeout = 0, cancel_running: Bool = True) -> StoppedScheduler:
        """Start no further runs.

        Args:
            timeout: seconds that active runs get to finish before they are cancelled.
            cancel_running: false lets active runs finish.
        """
        await self._services.scheduler.stop()
        trainer = self._services.trainer
        stopped = await trainer.stop(trainer.runs.values(), timeout) if cancel_running else []
        return StoppedScheduler(message="The scheduler is stopped.", is_running=False, stopped_models=stopped)

    @operation("GET", scope="read")
    async def get_scheduler_status(self) -> SchedulerStatus:
        """Whether the scheduler runs."""
        running = self._services.scheduler.is_running
        return SchedulerStatus(data=SchedulerState(is_running=running, status="running" if running else "stopped"))

    @operation("GET", scope="open")
    async def health(self) -> Health:
        """Whether the server answers, and whether it is read-only.

        Raises:
            Draining: if the server is closing.
        """
        if self.draining:
            raise Draining("The server is closing.")
        return Health(status="ok", read_only=self.read_only)
