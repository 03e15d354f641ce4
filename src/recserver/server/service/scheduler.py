"""Verbs about the scheduler, and the server's health."""

from __future__ import annotations

from recserver.core.errors import Draining
from recserver.core.validation.values import Bool, Timeout
from recserver.server.service.operation import Operations, Result, control, operation
from recserver.training.task import TaskSpec

PAUSED_REASON = "The task is paused: POST /resume_task lets it run again."


class SchedulerOperations(Operations):
    """Start, stop and look at the scheduler. It starts with the server and follows every change by itself."""

    @control
    async def restart_scheduler(self, *, timeout: Timeout = 0) -> Result:
        """Look at all models and tasks again, and start the scheduler if it was stopped.

        Trainings under way are left alone, so there is nothing that ``timeout`` would have to wait for.
        """
        scheduler = self.services.scheduler
        await self.services.model_cache.refresh()
        await scheduler.start()
        wanted = await self.services.runner.read_tasks()
        skipped = dict(scheduler.file_errors)
        skipped |= {
            name: PAUSED_REASON for name, one in wanted.items() if isinstance(one, TaskSpec) and not one.enabled
        }
        loops = {name: loop.spec for name in scheduler.task_names if (loop := scheduler.loop(name))}
        for name, spec in loops.items():
            if reason := await self.services.runner.blocking_reason(spec):
                skipped[name] = reason
        scheduled = len(loops.keys() - skipped.keys())
        left_out = f" and leaves out {len(skipped)}: tasks_skipped says why" if skipped else ""
        return {
            "message": f"The scheduler runs {scheduled} task{'' if scheduled == 1 else 's'}{left_out}.",
            "is_running": True,
            "tasks_scheduled": scheduled,
            "tasks_skipped": skipped,
        }

    @control
    async def stop_scheduler(self, *, timeout: Timeout = 0, cancel_running: Bool = True) -> Result:
        """Start no new run, give those under way ``timeout`` seconds, and cancel the rest unless told not to."""
        parts = self.services
        await parts.scheduler.stop()
        stopped = await parts.trainer.stop(parts.trainer.runs.values(), timeout) if cancel_running else []
        return {"message": "The scheduler is stopped.", "is_running": False, "stopped_models": stopped}

    @operation
    async def get_scheduler_status(self) -> Result:
        """Whether the scheduler runs."""
        running = self.services.scheduler.is_running
        return {"data": {"is_running": running, "status": "running" if running else "stopped"}}

    @operation
    async def health(self) -> Result:
        """That the server answers, and is not closing; and whether it only looks."""
        if self.draining:
            raise Draining("The server is closing.")
        return {"status": "ok"} | ({"read_only": True} if self.read_only else {})
