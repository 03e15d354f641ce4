"""Operations on runs: start, stop, and look up active and past runs."""

from __future__ import annotations

import asyncio

from recserver._internal.core.errors import (
    InvalidInput,
    ModelNotFound,
    RunNotFound,
    StorageUnreadable,
    TaskNotFound,
)
from recserver._internal.core.validation.values import Bool, Count, KnownId, OptionalId, Text, Wait
from recserver._internal.registry.consistent_reads import read_consistently
from recserver._internal.results.runs import (
    RunList,
    RunOutcome,
    RunRecord,
    StartedRun,
    StoppedTrainings,
    TrainingState,
    TrainingStatus,
)
from recserver._internal.results.tasks import ChangedTask
from recserver._internal.server.service.model_views import ModelViews
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.tasks import find_task, schedule_summary
from recserver._internal.training.active_run import Run


class RunOperations(ModelViews):
    """Run tasks manually, stop trainings, and show runs."""

    tag = "Runs"

    @operation("POST", scope="train", changes="definitions", example={"task_name": "train_coffee"})
    async def run_task(self, task_name: KnownId, *, force: Bool = False) -> StartedRun:
        """Train a task's model now, whatever its schedule, even if the data has not changed.

        It returns as soon as the run has started.

        Args:
            task_name: the task.
            force: promote the new version even if the quality gate would reject it.

        Raises:
            TaskNotFound: if there is no such task.
            ModelNotFound: if its model is missing.
            DataChefNotFound: if a data chef of it is missing.
            ModelBusy: if the model is being trained.
            InvalidInput: if the task's file cannot be used.
        """
        run = await self._services.runner.run_now(await find_task(task_name, self._services.tasks), force=force)
        return StartedRun(
            message=f"Task {task_name} trains model {run.model_id}.",
            task_name=task_name,
            model_id=run.model_id,
            run_id=run.request.run_id,
        )

    @operation("POST", scope="train", changes="running", example={"model_id": "coffee"})
    async def stop_training(
        self, *, model_id: KnownId | None = None, task_name: KnownId | None = None
    ) -> StoppedTrainings:
        """Stop the training of a model, or of a task, immediately. The serving version keeps serving.

        Args:
            model_id: the model. It or ``task_name`` is required.
            task_name: the task.

        Raises:
            ModelNotFound: if there is no such model.
            TaskNotFound: if there is no such task.
        """
        if (model_id is None) == (task_name is None):
            raise InvalidInput("Give either model_id or task_name.")
        trainer = self._services.trainer
        if model_id is not None:
            if model_id not in await self._services.models.ids():
                raise ModelNotFound(model_id)
            runs = [run for run in trainer.runs.values() if run.model_id == model_id]
        else:
            if task_name not in await self._services.tasks.names():
                raise TaskNotFound(str(task_name))
            runs = self._services.runner.active_runs(task_name)
        stopped = await trainer.stop(runs)
        message = f"The training of {', '.join(stopped)} was stopped." if stopped else "Nothing was being trained."
        return StoppedTrainings(message=message, stopped_models=stopped)

    @operation("POST", scope="train", changes="definitions", example={"task_name": "train_coffee"})
    async def pause_task(self, task_name: KnownId) -> ChangedTask:
        """Stop scheduling a task. An active run continues, and ``run_task`` still works.

        Args:
            task_name: the task.

        Raises:
            TaskNotFound: if there is no such task.
            InvalidInput: if its file cannot be used.
        """
        return await self._set_enabled(task_name, False)

    @operation("POST", scope="train", changes="definitions", example={"task_name": "train_coffee"})
    async def resume_task(self, task_name: KnownId) -> ChangedTask:
        """Schedule a paused task again. All runs that were missed are replaced by one.

        Args:
            task_name: the task.

        Raises:
            TaskNotFound: if there is no such task.
            InvalidInput: if its file cannot be used.
        """
        return await self._set_enabled(task_name, True)

    @operation("GET", "/{model_id}", scope="read", example={"model_id": "coffee"})
    async def get_training_status(self, model_id: KnownId) -> TrainingStatus:
        """The status of a model, and the progress of its training.

        Args:
            model_id: the model.

        Raises:
            ModelNotFound: if there is no such model.
        """
        seconds = await self._usual_seconds(model_id)
        model, findings = await read_consistently(self._services.models, model_id, self._inspect)
        run = self._services.trainer.under_way(model_id)
        return TrainingStatus(data=_state(self._display(model, findings)["status"], run, seconds))

    @operation("GET", scope="read", example={"task_name": "train_coffee", "limit": 2})
    async def list_runs(
        self,
        *,
        task_name: OptionalId | None = None,
        model_id: OptionalId | None = None,
        outcome: RunOutcome | None = None,
        limit: Count = 50,
        before: Text | None = None,
    ) -> RunList:
        """Active and past runs, newest first.

        Args:
            task_name: only runs of this task.
            model_id: only runs of this model.
            outcome: only runs that ended so; ``running`` for active ones.
            limit: maximum number of runs.
            before: the ``run_id`` of the last run of the previous page.
        """
        runs = await self._services.history.page(
            task_name=task_name, model_id=model_id, outcome=outcome, limit=limit, before=before
        )
        return RunList(data=[run.summary() for run in runs])

    @operation(
        "GET",
        "/{run_id}",
        scope="read",
        may_wait=True,
        example={"run_id": "20260102T030405678-0000003f9a2c", "wait": 60},
    )
    async def get_run(self, run_id: Text, *, wait: Wait = 0) -> RunRecord:
        """One run with all its fields.

        Args:
            run_id: as in ``list_runs``, or from ``run_task``.
            wait: seconds to wait for the end of an active run. The run is returned when it has ended, or is still
                active after that time.

        Raises:
            RunNotFound: if there is no such run.
        """
        if wait and not self.draining:
            await self._wait_for_end(run_id, wait)
        run = await self._services.history.get(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run

    def end_waits(self) -> None:
        """End all waits for the end of a run, whose requests are answered with the run as it is."""
        for end in list(self._waits):
            end()

    async def _wait_for_end(self, run_id: str, seconds: float) -> None:
        """Return when a run has ended, or after some seconds, or at once if it is not active."""
        clock, ended = self._services.clock, asyncio.Event()

        def end(_: object = None) -> None:
            ended.set()

        for run in self._services.trainer.runs.values():
            if run.request.run_id == run_id:
                run.result.add_done_callback(end)
                self._waits.add(end)
                try:
                    await clock.wait(ended, clock.monotonic() + seconds)
                finally:
                    run.result.remove_done_callback(end)
                    self._waits.discard(end)
                return

    async def _usual_seconds(self, model_id: str) -> float | None:
        """Seconds that the last completed training of a model took; None if there is none."""
        try:
            last = await self._services.history.page(model_id=model_id, outcome=RunOutcome.COMPLETED, limit=1)
        except StorageUnreadable:
            return None
        return last[0].seconds if last else None

    async def _set_enabled(self, task_name: str, enabled: bool) -> ChangedTask:
        services = self._services
        spec = await find_task(task_name, services.tasks)
        if spec.enabled != enabled:
            spec = spec.model_copy(update={"enabled": enabled})
            await services.tasks.write(spec, keep_unknown_keys=True)
            await services.scheduler.reconcile()
        state = f"is not paused{await schedule_summary(spec, services)}" if enabled else "is paused"
        return ChangedTask(message=f"Task {task_name} {state}.", task_name=task_name, enabled=enabled)


def _state(status: str, run: Run | None, usual_seconds: float | None) -> TrainingState:
    """The state of a model, whose active run is expected to take as long as the previous one."""
    if run is None:
        return TrainingState(status=status)
    remaining = None if usual_seconds is None else round(max(0.0, usual_seconds - run.elapsed), 1)
    return TrainingState(
        status=status,
        elapsed_seconds=round(run.elapsed, 3),
        eta_seconds=remaining,
        run_id=run.request.run_id,
        task_name=run.task_name,
        **run.progress.model_dump(),
    )
