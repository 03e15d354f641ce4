"""Operations on the scheduler, and the health check."""

from __future__ import annotations

from recserver.core.errors import Draining
from recserver.core.validation.values import Bool, Timeout
from recserver.server.service.operation_decorators import Operations, Result, control, operation
from recserver.server.service.tasks import readable_tasks

PAUSED_REASON = "The task is paused: POST /resume_task resumes it."


class SchedulerOperations(Operations):
    """Start, stop and inspect the scheduler. It starts with the server and follows all changes by itself."""

    @control
    async def restart_scheduler(self, *, timeout: Timeout = 0) -> Result:
        """Read all models and tasks again, and start the scheduler if it was stopped.

        Running trainings are not affected, so that ``timeout`` has no effect.
        """
        scheduler, runner = self.services.scheduler, self.services.runner
        await self.services.model_cache.refresh()
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
        return {
            "message": f"The scheduler runs {scheduled} task{'' if scheduled == 1 else 's'}{omitted}.",
            "is_running": True,
            "tasks_scheduled": scheduled,
            "tasks_skipped": skipped,
        }

    @control
    async def stop_scheduler(self, *, timeout: Timeout = 0, cancel_running: Bool = True) -> Result:
        """Start no further runs. Active runs are cancelled after ``timeout`` seconds if ``cancel_running``."""
        await self.services.scheduler.stop()
        trainer = self.services.trainer
        stopped = await trainer.stop(trainer.runs.values(), timeout) if cancel_running else []
        return {"message": "The scheduler is stopped.", "is_running": False, "stopped_models": stopped}

    @operation
    async def get_scheduler_status(self) -> Result:
        """Whether the scheduler runs."""
        running = self.services.scheduler.is_running
        return {"data": {"is_running": running, "status": "running" if running else "stopped"}}

    @operation
    async def health(self) -> Result:
        """Whether the server answers, and whether it is read-only.

        Raises:
            Draining: if the server is closing.
        """
        if self.draining:
            raise Draining("The server is closing.")
        return {"status": "ok"} | ({"read_only": True} if self.read_only else {})
