"""Operations on runs: start, stop, and look up active and past runs."""

from __future__ import annotations

from typing import Any

from recserver.core.errors import InvalidInput, ModelNotFound, RunNotFound, StorageUnreadable, TaskNotFound
from recserver.core.validation.values import Bool, Count, KnownId, Text
from recserver.registry.consistent_reads import read_consistently
from recserver.server.service.model_views import ModelViews
from recserver.server.service.operation_decorators import Result, control, mutation, operation
from recserver.server.service.tasks import find_task, schedule_summary
from recserver.training.active_run import Run
from recserver.training.run_record import RunOutcome

_DETAIL_FIELDS = {"stages", "data_report", "hyperparameters", "metrics", "warnings"}
"""Fields of a run that only :meth:`RunOperations.get_run` returns."""


class RunOperations(ModelViews):
    """Run tasks manually, stop trainings, and show runs."""

    @mutation
    async def run_task(self, task_name: KnownId, *, force: Bool = False) -> Result:
        """Train a task's model now, whatever its schedule, even if the data has not changed.

        Args:
            force: promote the new version even if the quality gate would reject it.
        """
        run = await self.services.runner.run_now(await find_task(task_name, self.services.tasks), force=force)
        return {
            "message": f"Task {task_name} trains model {run.model_id}.",
            "task_name": task_name,
            "model_id": run.model_id,
            "run_id": run.request.run_id,
        }

    @control
    async def stop_training(self, *, model_id: KnownId | None = None, task_name: KnownId | None = None) -> Result:
        """Stop the training of a model, or of a task, immediately. The serving version keeps serving."""
        if (model_id is None) == (task_name is None):
            raise InvalidInput("Give either model_id or task_name.")
        trainer = self.services.trainer
        if model_id is not None:
            if model_id not in await self.services.models.ids():
                raise ModelNotFound(model_id)
            runs = [run for run in trainer.runs.values() if run.model_id == model_id]
        else:
            if task_name not in await self.services.tasks.names():
                raise TaskNotFound(str(task_name))
            runs = self.services.runner.active_runs(task_name)
        stopped = await trainer.stop(runs)
        message = f"The training of {', '.join(stopped)} was stopped." if stopped else "Nothing was being trained."
        return {"message": message, "stopped_models": stopped}

    @mutation
    async def pause_task(self, task_name: KnownId) -> Result:
        """Stop scheduling a task. An active run continues, and run_task still works."""
        return await self._set_enabled(task_name, False)

    @mutation
    async def resume_task(self, task_name: KnownId) -> Result:
        """Undo :meth:`pause_task`. All runs that were missed are replaced by one."""
        return await self._set_enabled(task_name, True)

    @operation
    async def get_training_status(self, model_id: KnownId) -> Result:
        """The progress of a model's training; fields that are not known are null."""
        seconds = await self._usual_seconds(model_id)
        model, findings = await read_consistently(self.services.models, model_id, self._inspect)
        run = self.services.trainer.under_way(model_id)
        return {"data": {"status": self._display(model, findings)["status"]} | _progress(run, seconds)}

    @operation
    async def list_runs(
        self,
        *,
        task_name: Text | None = None,
        model_id: Text | None = None,
        outcome: RunOutcome | None = None,
        limit: Count = 50,
        before: Text | None = None,
    ) -> Result:
        """Active and past runs, newest first.

        Args:
            before: the ``run_id`` of the last run of the previous page.
        """
        runs = await self.services.history.page(
            task_name=task_name, model_id=model_id, outcome=outcome, limit=limit, before=before
        )
        return {"data": [run.model_dump(exclude=_DETAIL_FIELDS) for run in runs]}

    @operation
    async def get_run(self, run_id: Text) -> Result:
        """One run with all its fields."""
        run = await self.services.history.get(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run.model_dump()

    async def _usual_seconds(self, model_id: str) -> float | None:
        """Seconds that the last completed training of a model took; None if there is none."""
        try:
            last = await self.services.history.page(model_id=model_id, outcome=RunOutcome.COMPLETED, limit=1)
        except StorageUnreadable:
            return None
        return last[0].seconds if last else None

    async def _set_enabled(self, task_name: str, enabled: bool) -> Result:
        services = self.services
        spec = await find_task(task_name, services.tasks)
        if spec.enabled != enabled:
            spec = spec.model_copy(update={"enabled": enabled})
            await services.tasks.write(spec, keep_unknown_keys=True)
            await services.scheduler.reconcile()
        state = f"is not paused{await schedule_summary(spec, services)}" if enabled else "is paused"
        return {"message": f"Task {task_name} {state}.", "task_name": task_name, "enabled": enabled}


def _progress(run: Run | None, usual_seconds: float | None) -> dict[str, Any]:
    """The progress of an active run, which is expected to take as long as the previous one."""
    progress: dict[str, Any] = dict.fromkeys(
        ("stage", "rows_read", "iteration", "iterations", "loss", "elapsed_seconds", "eta_seconds",
         "queue_position", "run_id", "task_name")
    )  # fmt: skip
    if run is None:
        return progress
    progress |= run.progress.model_dump() | {"run_id": run.request.run_id, "task_name": run.task_name}
    progress["elapsed_seconds"] = round(run.elapsed, 3)
    if usual_seconds is not None:
        progress["eta_seconds"] = round(max(0.0, usual_seconds - run.elapsed), 1)
    return progress
