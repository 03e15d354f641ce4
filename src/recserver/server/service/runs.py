"""Verbs about runs: begin and end them, look at them while they last and afterwards."""

from __future__ import annotations

from typing import Any

from recserver.core.errors import InvalidInput, ModelNotFound, RunNotFound, StorageUnreadable, TaskNotFound
from recserver.core.validation.values import Count, KnownId, Switch, Text
from recserver.registry.model_store import StoredModel
from recserver.scheduling.run_outcome import RunOutcome
from recserver.server.service.operation import Result, Verbs, changing_verb, steering_verb, verb
from recserver.server.service.tasks import outlook, task_called
from recserver.training.run import Run

_BRIEF = {"stages", "data_report", "hyperparameters", "metrics", "warnings"}
"""What of a run only :meth:`RunVerbs.get_run` tells."""


class RunVerbs(Verbs):
    """Run tasks by hand, stop trainings, and look back."""

    @changing_verb
    async def run_task(self, task_name: KnownId, *, force: Switch = False) -> Result:
        """Train a task's model now, whatever its schedule says; it always fits, also data that did not change.

        Args:
            force: let the new version serve even if the quality gate would refuse it.
        """
        run = await self.parts.runner.run_now(await task_called(task_name, self.parts.tasks), force=force)
        return {
            "message": f"Task {task_name} trains model {run.model_id}.",
            "task_name": task_name,
            "model_id": run.model_id,
            "run_id": run.order.run_id,
        }

    @steering_verb
    async def stop_training(self, *, model_id: KnownId | None = None, task_name: KnownId | None = None) -> Result:
        """End the training of a model, or of a task, at once. The version before it serves on."""
        if (model_id is None) == (task_name is None):
            raise InvalidInput("Give either model_id or task_name.")
        trainer = self.parts.trainer
        if model_id is not None:
            if model_id not in await self.parts.models.ids():
                raise ModelNotFound(model_id)
            runs = [run for run in trainer.runs.values() if run.model_id == model_id]
        else:
            if task_name not in await self.parts.tasks.names():
                raise TaskNotFound(str(task_name))
            runs = self.parts.runner.runs_of(task_name)
        stopped = await trainer.stop(runs)
        said = f"The training of {', '.join(stopped)} was stopped." if stopped else "Nothing was being trained."
        return {"message": said, "stopped_models": stopped}

    @changing_verb
    async def pause_task(self, task_name: KnownId) -> Result:
        """Let the scheduler leave a task alone. A run under way goes on; run_task still works."""
        return await self._enable(task_name, False)

    @changing_verb
    async def resume_task(self, task_name: KnownId) -> Result:
        """Undo :meth:`pause_task`. What was missed meanwhile is made up for by one run."""
        return await self._enable(task_name, True)

    @verb
    async def get_training_status(self, model_id: KnownId) -> Result:
        """How far the training of a model is; null where nobody knows."""
        model = await self.parts.models.read(model_id)
        return {"data": await self._progress(model)}

    @verb
    async def list_runs(
        self,
        *,
        task_name: Text | None = None,
        model_id: Text | None = None,
        outcome: RunOutcome | None = None,
        limit: Count = 50,
        before: Text | None = None,
    ) -> Result:
        """Runs of the past and under way, newest first.

        Args:
            before: the ``run_id`` of the last run of the page before.
        """
        runs = await self.parts.history.page(
            task_name=task_name, model_id=model_id, outcome=outcome, limit=limit, before=before
        )
        return {"data": [run.model_dump(exclude=_BRIEF) for run in runs]}

    @verb
    async def get_run(self, run_id: Text) -> Result:
        """One run with all that is known of it."""
        run = await self.parts.history.find(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run.model_dump()

    async def _progress(self, model: StoredModel) -> dict[str, Any]:
        run = self.parts.trainer.runs.get(model.model_id)
        found: dict[str, Any] = dict.fromkeys(
            ("stage", "rows_read", "iteration", "iterations", "loss", "elapsed_seconds", "eta_seconds",
             "queue_position", "run_id", "task_name")
        )  # fmt: skip
        found = {"status": model.status} | found
        if run is None:
            return found
        found |= run.progress.model_dump() | {"run_id": run.order.run_id, "task_name": run.task_name}
        found["elapsed_seconds"] = round(run.elapsed, 3)
        found["eta_seconds"] = await self._left(run)
        return found

    async def _left(self, run: Run) -> float | None:
        """Seconds that a training still takes, if it takes as long as the last one that completed."""
        try:
            before = await self.parts.history.page(model_id=run.model_id, outcome=RunOutcome.COMPLETED, limit=1)
        except StorageUnreadable:
            return None
        if not before or before[0].seconds is None:
            return None
        return round(max(0.0, before[0].seconds - run.elapsed), 1)

    async def _enable(self, task_name: str, enabled: bool) -> Result:
        parts = self.parts
        spec = await task_called(task_name, parts.tasks)
        if spec.enabled != enabled:
            spec = spec.model_copy(update={"enabled": enabled})
            await parts.tasks.write(spec, keep=True)
            await parts.scheduler.reconcile()
        how = f"is not paused{await outlook(spec, parts)}" if enabled else "is paused"
        return {"message": f"Task {task_name} {how}.", "task_name": task_name, "enabled": enabled}
