"""One training, from the model's config to a published version; it owns the model's status meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.background_tasks import BackgroundTasks
from recserver._internal.core.clock import Clock, timestamp
from recserver._internal.core.errors import ModelBusy, RecServerError, SourceUnchanged, TrainingFailed, quoted
from recserver._internal.core.events import EventBus, RunEnded, RunProgressed, RunStarted
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.version_store import VersionStore
from recserver._internal.storage.atomic_files import temporary_path, to_thread_shielded, unlink_quietly
from recserver._internal.storage.model_file.version_numbers import next_version
from recserver._internal.training.active_run import (
    INTERNAL_ERROR,
    Run,
    RunLog,
    RunResult,
    TrainingRequest,
    failure_of,
)
from recserver._internal.training.executors.protocol import Executor
from recserver._internal.training.jobs import Progress, TrainingJob, TrainingLimits, TrainingResult
from recserver._internal.training.publisher import Publisher, quality_gate

logger = logging.getLogger(__name__)

INTERRUPTED = "interrupted: the server ended during this training; the next one starts afresh."


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Runs trainings, at most one for each model."""

    models: ModelStore
    version_store: VersionStore
    publisher: Publisher
    model_cache: ModelCache
    executor: Executor
    policy: SourcePolicy
    limits: TrainingLimits
    """Of trainings whose tasks have none."""
    background: BackgroundTasks
    clock: Clock
    events: EventBus
    runs: dict[str, Run] = field(default_factory=dict, init=False)
    """Running trainings, by model."""
    _blocked: set[str] = field(default_factory=set, init=False)

    async def recover(self) -> None:
        """Mark trainings that a killed server left as failed, and remove their temporary files."""
        await asyncio.to_thread(self.models.recover)
        for model in await self.models.read_all():
            if ModelStatus(model.status).in_training:
                await self._set_status(model.model_id, ModelStatus.FAILED, RunResult("failed", INTERRUPTED))
                logger.warning("model %s: %s", model.model_id, INTERRUPTED)

    def blocking_reason(self, model_id: str) -> str | None:
        """Why a training of the model cannot begin now; None if it can."""
        if run := self.runs.get(model_id):
            return f"Model {quoted(model_id)} is being trained by task {quoted(run.task_name)}."
        return f"Model {quoted(model_id)} is being changed." if model_id in self._blocked else None

    @contextmanager
    def block_training(self, model_id: str) -> Iterator[None]:
        """Prevent trainings of the model while its definition is changed."""
        self._blocked.add(model_id)
        try:
            yield
        finally:
            self._blocked.discard(model_id)

    def under_way(self, model_id: str) -> Run | None:
        """The running training of a model, from when its beginning is visible until its end is."""
        run = self.runs.get(model_id)
        return run if run is not None and run.status is not None else None

    def start(self, request: TrainingRequest, log: RunLog) -> Run:
        """Begin a training. Its ``result`` is set when all of it has ended.

        Raises:
            ModelBusy: if the model is being trained.
        """
        model_id = request.task.model_id
        if reason := self.blocking_reason(model_id):
            raise ModelBusy(f"{reason} Wait for that to end.")
        run = Run(request, log, self.clock)
        work = self.background.start(partial(self._run, run), f"training of {model_id}")
        self.runs[model_id] = run
        work.add_done_callback(lambda _: self._finish(run, RunResult("failed", INTERNAL_ERROR, is_internal=True)))
        return run

    async def stop(self, runs: Iterable[Run], timeout: float = 0) -> list[str]:
        """Wait for trainings to end, and cancel those that have not ended after ``timeout`` seconds.

        Returns:
            The models whose training was cancelled. None of these trainings runs any more.
        """
        runs = list(runs)
        if runs and timeout > 0:
            await asyncio.wait([run.result for run in runs], timeout=timeout)
        stopped = [run for run in runs if not run.result.done()]
        for run in stopped:
            run.stop()
        if stopped:
            await asyncio.wait([run.result for run in stopped])
        return sorted(run.model_id for run in stopped if run.result.result().outcome == "stopped")

    async def _run(self, run: Run) -> None:
        """Run a training to its result, whatever happens. Only the training and the validation can be stopped."""
        out = temporary_path(self.models.model_path(run.model_id))
        problem = await self._begin(run)
        try:
            if problem is not None:
                raise problem
            with run.stoppable():
                result = await self._train(run, out)
                recommender = await self._validate(run, out, result)
            self._enter_stage(run, "publishing")
            serving = await self._serving_version(run)
            async with self.models.locks.changing(run.model_id):
                run_result = await self.publisher.publish(run, out, result, recommender, serving)
                await self._end(run, out, run_result)
        except asyncio.CancelledError:
            await self._end_with_status(run, out, RunResult("stopped"), ModelStatus.STOPPED)
        except SourceUnchanged as unchanged:
            was_rejected = run.previous_status == ModelStatus.FAILED
            reason = str(run.request.model.config.get("error")) if was_rejected else None
            run_result = RunResult("unchanged", reason, data_report=unchanged.data_report)
            await self._end_with_status(run, out, run_result, run.previous_status)
        except Exception as error:
            run_result = failure_of(error)
            if run_result.is_internal and not isinstance(error, TrainingFailed):
                logger.exception("run %s, training of model %s", run.request.run_id, run.model_id)
            await self._end_with_status(run, out, run_result, ModelStatus.FAILED)
        await run.log.flush()

    async def _begin(self, run: Run) -> Exception | None:
        """Make the beginning of a run visible in the model's status, the task state and the history at once.

        Returns:
            Why the training cannot continue; None if it can.
        """
        problem: Exception | None = None
        async with self.models.locks.changing(run.model_id):
            try:
                await self.models.update_config(run.model_id, ModelStatus.TRAINING)
            except (RecServerError, OSError) as error:
                problem = error
            await run.log.prepare_begin()
            run.status = ModelStatus.TRAINING
            run.log.begin()
            run.visible.set()
        request = run.request
        self.events.publish(RunStarted(run.task_name, run.model_id, request.run_id, request.trigger))
        logger.info(
            "run started: task %s trains model %s from %s (%s)",
            run.task_name, run.model_id, request.task.interactions_data_chef_id, request.run_id,
        )  # fmt: skip
        return TrainingFailed(request.model.unreadable_reason) if request.model.unreadable_reason else problem

    async def _end_with_status(self, run: Run, out: Path, run_result: RunResult, status: ModelStatus) -> None:
        """End a run without a new version, and set the model's status."""
        async with self.models.locks.changing(run.model_id):
            await self._set_status(run.model_id, status, run_result)
            await self._end(run, out, run_result)

    async def _end(self, run: Run, out: Path, run_result: RunResult) -> None:
        """Make the end of a run visible everywhere at once, while the lock of its model is held.

        Until the lock is released, the status on the disk is not read and no other run begins.
        """
        await to_thread_shielded(unlink_quietly, out)
        await run.log.prepare_end(run_result)
        self._finish(run, run_result)

    async def _train(self, run: Run, out: Path) -> TrainingResult:
        job, warnings = await self._build_job(run.request, out)
        result = await self.executor.run(job, partial(self._report_progress, run))
        return result.model_copy(update={"warnings": [*warnings, *result.warnings]})

    async def _build_job(self, request: TrainingRequest, out: Path) -> tuple[TrainingJob, list[str]]:
        """The job of the worker, and warnings about the hyperparameters."""
        model, task = request.model, request.task
        name, stored = model.config["algorithm"], model.config["hyperparameters"]
        algorithm = await asyncio.to_thread(load_algorithm, name)  # may search the installed packages
        hyperparameters, warnings = algorithm.check(stored, ignore=stored)
        quality_gate(model)  # refuse a wrong one before the training
        is_available = await self.model_cache.unavailable_reason(model) is None
        newest, highest = await self.version_store.newest_and_highest(model.model_id)
        serving = self.model_cache.get_loaded(model.model_id)
        compared = is_available and not request.fit_if_unchanged
        job = TrainingJob(
            model_id=model.model_id,
            model_version=next_version(highest, serving.model_version if serving else 0),
            algorithm=name,
            hyperparameters={**algorithm.default_params, **hyperparameters},
            run_id=request.run_id,
            data_chef_id=task.interactions_data_chef_id,
            data_chef=request.interactions_chef,
            item_features_data_chef_id=task.item_features_data_chef_id,
            item_features=request.item_features_chef,
            policy=self.policy,
            out=out,
            previous_model=self.models.model_path(model.model_id) if is_available else None,
            time_limit=task.time_limit or self.limits.seconds,
            memory_limit=task.memory_limit or self.limits.memory,
            **(await self.publisher.previous_training(model, newest) if compared else {}),
        )
        return job, warnings

    def _enter_stage(self, run: Run, stage: str) -> None:
        """Begin a stage that runs in the server."""
        self._report_progress(run, Progress(stage=stage, rows_read=run.progress.rows_read))

    def _report_progress(self, run: Run, progress: Progress) -> None:
        run.update_progress(progress)
        self.events.publish(
            RunProgressed(run.task_name, run.model_id, run_id=run.request.run_id, **progress.model_dump())
        )

    async def _serving_version(self, run: Run) -> int | None:
        """The number of the serving version; None if the model is permanently unavailable."""
        model = await self.models.read(run.model_id)
        lost = await self.model_cache.unavailable_reason(model) is not None
        if serving := self.model_cache.get_loaded(run.model_id):
            return serving.model_version
        if lost and self.model_cache.is_permanently_unavailable(model):
            return None
        return await self.version_store.serving(run.model_id) or None

    async def _validate(self, run: Run, out: Path, result: TrainingResult) -> Recommender:
        """Load and validate the packed file."""
        self._enter_stage(run, "validating")
        async with self.models.locks.changing(run.model_id):
            await self.models.update_config(run.model_id, ModelStatus.VALIDATING)
            run.status = ModelStatus.VALIDATING
        packed, recommender = await asyncio.to_thread(load_model, out)
        if (packed.size, packed.sha256) != (result.size, result.sha256):
            raise TrainingFailed("The packed model changed on its way to the server: train it again.")
        return recommender

    async def _set_status(self, model_id: str, status: ModelStatus, result: RunResult) -> None:
        """Write the status of a model whose run has ended; if even that fails, the log has it."""
        now = timestamp(self.clock.now())
        changes: dict[str, dict[str, Any]] = {
            "failed": {"error": result.error, "failed_at": now},
            "stopped": {"stopped_at": now},
        }
        try:
            await self.models.update_config(model_id, status, **changes.get(result.outcome, {}))
        except RecServerError as error:
            logger.warning("model %s: its status is not written: %s", model_id, error)
        except OSError:
            logger.exception("the status of model %s could not be written", model_id)

    def _finish(self, run: Run, result: RunResult) -> None:
        if run.result.done():
            return
        self.runs.pop(run.model_id, None)
        run.visible.set()
        try:
            run.log.end(run, result)
        except Exception:  # the result must be set in any case
            logger.exception("the end of run %s could not be recorded", run.request.run_id)
        run.result.set_result(result)
        self.events.publish(
            RunEnded(
                run.task_name,
                run.model_id,
                result.outcome,
                result.error,
                result.model_version,
                result.data_report,
                run.request.run_id,
                round(run.elapsed, 3),
            )
        )
        level = logging.ERROR if result.outcome == "failed" else logging.INFO
        detail = f": {result.error}" if result.error else ""
        logger.log(
            level,
            "run %s: task %s, model %s, %.1f s (%s)%s",
            result.outcome, run.task_name, run.model_id, run.elapsed, run.request.run_id, detail,
        )  # fmt: skip
