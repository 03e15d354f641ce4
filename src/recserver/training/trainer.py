"""One training from its model's config to a published version; owns the model's status meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from recserver.algorithms.lookup import algorithm
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.clock import Clock, timestamp
from recserver.core.errors import ModelBusy, RecServerError, SourceUnchanged, TrainingFailed, shown
from recserver.core.events import EventBus, RunEnded, RunProgressed, RunStarted
from recserver.core.task_group import TaskOwner
from recserver.recommend.model.loading import open_packed
from recserver.recommend.model.recommender import Recommender
from recserver.registry.model_cache import Catalog
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import ModelStore
from recserver.registry.version_store import VersionStore
from recserver.storage.atomic_files import remove, temporary_beside
from recserver.storage.model_file.version_numbers import next_version
from recserver.training.executors.protocol import Executor
from recserver.training.jobs import Limits, Progress, TrainingJob, TrainingResult
from recserver.training.publisher import Publisher, quality_gate
from recserver.training.run import FAULT, Order, Outcome, Run, RunLog, failure_of

logger = logging.getLogger(__name__)

INTERRUPTED = "interrupted: the server ended during this training; the next one starts afresh."


class Trainer:
    """Runs trainings, at most one a model."""

    def __init__(
        self,
        *,
        models: ModelStore,
        store: VersionStore,
        publisher: Publisher,
        catalog: Catalog,
        executor: Executor,
        policy: SourcePolicy,
        limits: Limits,
        owner: TaskOwner,
        clock: Clock,
        events: EventBus,
    ) -> None:
        """
        Args:
            limits: of a training whose task names none.
        """
        self._models, self._store, self._publisher, self._catalog = models, store, publisher, catalog
        self._executor, self._policy, self._limits = executor, policy, limits
        self._owner, self._clock, self._events = owner, clock, events
        self.runs: dict[str, Run] = {}
        """Trainings under way, by model."""
        self._held: set[str] = set()

    async def recover(self) -> None:
        """Mark trainings that a killed server left behind as failed, and remove their litter."""
        await self._models.clear_temporaries()
        for model in await self._models.all():
            if ModelStatus(model.status).in_training:
                status, changes = self._failed(INTERRUPTED)
                await self._move(model.model_id, status, **changes)
                logger.warning("model %s: %s", model.model_id, INTERRUPTED)

    def obstacle(self, model_id: str) -> str | None:
        """Why no training of the model can begin now; None if one can."""
        if run := self.runs.get(model_id):
            return f"Model {shown(model_id)} is being trained by task {shown(run.task_name)}."
        return f"Model {shown(model_id)} is being changed." if model_id in self._held else None

    @contextmanager
    def hold(self, model_id: str) -> Iterator[None]:
        """Let no training of the model begin while its definition is changed."""
        self._held.add(model_id)
        try:
            yield
        finally:
            self._held.discard(model_id)

    def under_way(self, model_id: str) -> Run | None:
        """The training of a model, from the moment it can be seen to the moment its end can be."""
        run = self.runs.get(model_id)
        return run if run is not None and run.status is not None else None

    def start(self, order: Order, log: RunLog) -> Run:
        """Begin a training. Its ``outcome`` is set when everything about it has ended.

        Raises:
            ModelBusy: if the model is being trained.
        """
        model_id = order.task.model_id
        if reason := self.obstacle(model_id):
            raise ModelBusy(f"{reason} Wait for that to end.")
        run = Run(order, log, self._clock)
        work = self._owner.start(partial(self._conduct, run), f"training of {model_id}")
        self.runs[model_id] = run
        work.add_done_callback(lambda _: self._finish(run, Outcome("failed", FAULT, fault=True)))
        return run

    async def stop(self, runs: Iterable[Run], timeout: float = 0) -> list[str]:
        """End trainings: those that have not ended by themselves after ``timeout`` seconds are cancelled.

        Returns:
            The models whose training was cancelled. Nothing of these trainings runs any more.
        """
        runs = list(runs)
        if runs and timeout > 0:
            await asyncio.wait([run.outcome for run in runs], timeout=timeout)
        stopped = [run for run in runs if not run.outcome.done()]
        for run in stopped:
            run.stop()
        if stopped:
            await asyncio.wait([run.outcome for run in stopped])
        return sorted(run.model_id for run in stopped if run.outcome.result().kind == "stopped")

    async def _conduct(self, run: Run) -> None:
        """Everything of a training, ending in its outcome whatever happens. Only its middle can be stopped."""
        out = temporary_beside(self._models.pickle(run.model_id))
        problem = await self._begin(run)
        try:
            if problem is not None:
                raise problem
            with run.stoppable():
                result = await self._fit(run, out)
                recommender = await self._validate(run, out, result)
            self._enter(run, "publishing")
            serving = await self._serving(run)
            async with self._models.locks.changing(run.model_id):
                outcome = await self._publisher.publish(run, out, result, recommender, serving)
                await self._end(run, out, outcome)
        except asyncio.CancelledError:
            stopped = ModelStatus.STOPPED, {"stopped_at": timestamp(self._clock.now())}
            await self._end_with_status(run, out, Outcome("stopped"), *stopped)
        except SourceUnchanged as ending:
            refused = str(run.order.model.config.get("error")) if run.before == ModelStatus.FAILED else None
            outcome = Outcome("unchanged", refused, data_report=ending.data_report)
            await self._end_with_status(run, out, outcome, run.before)
        except Exception as error:
            outcome = failure_of(error)
            if outcome.fault and not isinstance(error, TrainingFailed):
                logger.exception("run %s, training of model %s", run.order.run_id, run.model_id)
            await self._end_with_status(run, out, outcome, *self._failed(outcome.error))
        await run.log.flush()

    async def _begin(self, run: Run) -> Exception | None:
        """Let the model's status, the journal and the history tell together that a run is under way.

        Returns:
            What speaks against going on with it, if anything does.
        """
        problem: Exception | None = None
        async with self._models.locks.changing(run.model_id):
            try:
                await self._models.move(run.model_id, ModelStatus.TRAINING)
            except (RecServerError, OSError) as error:
                problem = error
            await run.log.prepare_begin()
            run.status = ModelStatus.TRAINING
            run.log.begin()
            run.begun.set()
        order = run.order
        self._events.publish(RunStarted(run.task_name, run.model_id, order.run_id, order.trigger))
        logger.info(
            "run started: task %s trains model %s from %s (%s)",
            run.task_name, run.model_id, order.task.interactions_data_chef_id, order.run_id,
        )  # fmt: skip
        return TrainingFailed(order.model.unreadable) if order.model.unreadable else problem

    async def _end_with_status(
        self, run: Run, out: Path, outcome: Outcome, status: ModelStatus, changes: Mapping[str, Any] | None = None
    ) -> None:
        """End a run that publishes nothing; the model gets the status."""
        async with self._models.locks.changing(run.model_id):
            await self._move(run.model_id, status, **(changes or {}))
            await self._end(run, out, outcome)

    async def _end(self, run: Run, out: Path, outcome: Outcome) -> None:
        """Let everything tell at once how a run ended, while the lock of its model is held.

        Until the lock is released nobody reads the status that stands on the disk already, nor begins another run.
        """
        try:
            await remove([out])
        except OSError:  # the next start of the server removes it
            logger.warning("%s could not be removed", out)
        await run.log.prepare_end(outcome)
        self._finish(run, outcome)

    def _failed(self, sentence: str | None) -> tuple[ModelStatus, dict[str, Any]]:
        """The status of a model whose training failed, and what its config says besides."""
        return ModelStatus.FAILED, {"error": sentence, "failed_at": timestamp(self._clock.now())}

    async def _fit(self, run: Run, out: Path) -> TrainingResult:
        job, warnings = await self._job(run.order, out)

        def on_progress(progress: Progress) -> None:
            run.note(progress)
            self._tell(run)

        result = await self._executor.run(job, on_progress)
        return result.model_copy(update={"warnings": [*warnings, *result.warnings]})

    async def _job(self, order: Order, out: Path) -> tuple[TrainingJob, list[str]]:
        """What the worker is told, and what is odd about the hyperparameters."""
        model, task = order.model, order.task
        name, stored = model.config["algorithm"], model.config["hyperparameters"]
        method = await asyncio.to_thread(algorithm, name)  # may search the installed packages
        hyperparameters, warnings = method.check(stored, ignore=stored)
        quality_gate(model)  # better refused now than after the training
        serves = await self._catalog.needs_training(model) is None
        newest, highest = await self._store.last(model.model_id)
        serving = self._catalog.in_memory(model.model_id)
        compared = serves and not order.always_fits
        job = TrainingJob(
            model_id=model.model_id,
            model_version=next_version(highest, serving.model_version if serving else 0),
            algorithm=name,
            hyperparameters={**method.default_params, **hyperparameters},
            run_id=order.run_id,
            data_chef_id=task.interactions_data_chef_id,
            data_chef=order.chef,
            item_features_data_chef_id=task.item_features_data_chef_id,
            item_features=order.item_features,
            policy=self._policy,
            out=out,
            earlier=self._models.pickle(model.model_id) if serves else None,
            time_limit=task.time_limit or self._limits.seconds,
            memory_limit=task.memory_limit or self._limits.memory,
            **(await self._publisher.learned(model, newest) if compared else {}),
        )
        return job, warnings

    def _enter(self, run: Run, stage: str) -> None:
        run.enter(stage)
        self._tell(run)

    def _tell(self, run: Run) -> None:
        """Tell how far a training is."""
        self._events.publish(
            RunProgressed(run.task_name, run.model_id, run_id=run.order.run_id, **run.progress.model_dump())
        )

    async def _serving(self, run: Run) -> int | None:
        """The number of the version that serves while a training ends; None if none can, and never will again."""
        model = await self._models.read(run.model_id)
        lost = await self._catalog.needs_training(model) is not None
        if serving := self._catalog.in_memory(run.model_id):
            return serving.model_version
        if lost and self._catalog.refuses(model):
            return None
        return await self._store.serving(run.model_id) or None

    async def _validate(self, run: Run, out: Path, result: TrainingResult) -> Recommender:
        """Check the packed file, and open it."""
        self._enter(run, "validating")
        async with self._models.locks.changing(run.model_id):
            await self._models.move(run.model_id, ModelStatus.VALIDATING)
            run.status = ModelStatus.VALIDATING
        packed, recommender = await asyncio.to_thread(open_packed, out)
        if (packed.size, packed.sha256) != (result.size, result.sha256):
            raise TrainingFailed("The packed model changed on its way to the server: train it again.")
        return recommender

    async def _move(self, model_id: str, status: ModelStatus, **changes: Any) -> None:
        """Write a status that tells of an ending; if even that fails, the log is where it is told."""
        try:
            await self._models.move(model_id, status, **changes)
        except RecServerError as error:
            logger.warning("model %s: its status is not written: %s", model_id, error)
        except OSError:
            logger.exception("the status of model %s could not be written", model_id)

    def _finish(self, run: Run, outcome: Outcome) -> None:
        if run.outcome.done():
            return
        self.runs.pop(run.model_id, None)
        run.begun.set()
        try:
            run.log.end(run, outcome)
        except Exception:  # whoever waits for the outcome must get it
            logger.exception("the end of run %s could not be recorded", run.order.run_id)
        run.outcome.set_result(outcome)
        self._events.publish(
            RunEnded(
                run.task_name,
                run.model_id,
                outcome.kind,
                outcome.error,
                outcome.model_version,
                outcome.data_report,
                run.order.run_id,
                round(run.elapsed, 3),
            )
        )
        level = logging.ERROR if outcome.kind == "failed" else logging.INFO
        detail = f": {outcome.error}" if outcome.error else ""
        logger.log(
            level,
            "run %s: task %s, model %s, %.1f s (%s)%s",
            outcome.kind, run.task_name, run.model_id, run.elapsed, run.order.run_id, detail,
        )  # fmt: skip
