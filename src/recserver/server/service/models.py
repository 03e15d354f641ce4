"""Verbs about models."""

from __future__ import annotations

import asyncio

from recserver.algorithms.lookup import algorithm as algorithm_called
from recserver.algorithms.lookup import algorithms_described
from recserver.core.clock import timestamp
from recserver.core.errors import ModelBusy, ModelExists, ModelInUse, shown
from recserver.core.validation.values import KnownId, NewModelId, PlainObject, Switch, Text, Title, refuse_existing
from recserver.registry.consistent_reads import read_all_consistently, read_consistently
from recserver.registry.model_config import new_config
from recserver.registry.model_status import ModelStatus
from recserver.registry.quality_gate import QualityGate
from recserver.server.service.model_views import ModelViews
from recserver.server.service.operation import Result, changing_verb, changing_verb_unless, verb
from recserver.training.task import TaskSpec


class ModelVerbs(ModelViews):
    """Create, look at and delete models."""

    @verb
    async def get_available_algorithms(self) -> Result:
        """All algorithms by name, with what they are for and their default hyperparameters."""
        return {"algorithms": await asyncio.to_thread(algorithms_described)}

    @changing_verb
    async def create_model(
        self,
        model_id: NewModelId,
        *,
        algorithm: Text,
        model_name: Title | None = None,
        message: Text = "",
        hyperparameters: PlainObject | None = None,
        quality_gate: QualityGate | None = None,
        overwrite: Switch = False,
    ) -> Result:
        """Write a model's config. Nothing is trained until a task does it."""
        parts = self.parts
        method = await asyncio.to_thread(algorithm_called, algorithm)
        checked, warnings = method.check(hyperparameters or {})
        refuse_existing(ModelExists, "Model", model_id, await parts.models.ids(), overwrite)
        config = new_config(
            model_id,
            algorithm,
            method.model_type,
            {**method.default_params, **checked},
            timestamp(parts.clock.now()),
            model_name=model_name or model_id,
            message=message,
        )
        if quality_gate is not None:
            config["quality_gate"] = quality_gate.model_dump()
        if reason := parts.trainer.obstacle(model_id):
            raise ModelBusy(f"{reason} Overwrite it when that has ended.")
        with parts.trainer.hold(model_id):
            async with parts.models.locks.changing(model_id):
                await parts.models.create(model_id, config)
                parts.catalog.drop(model_id)
        await parts.scheduler.reconcile()
        answered = ("model_id", "status", "algorithm", "model_type", "hyperparameters")
        result: Result = {"message": f"Model {model_id} was created; add a task to train it."}
        result |= {name: config[name] for name in answered}
        return result | ({"warnings": warnings} if warnings else {})

    @verb
    async def list_models(self) -> Result:
        """All models by id."""
        seen = await read_all_consistently(self.parts.models, self._look)
        return {model.model_id: self._shown(model, found) for model, found in seen}

    @verb
    async def get_model_info(self, model_id: KnownId) -> Result:
        """One model, and how far its training is."""
        model, found = await read_consistently(self.parts.models, model_id, self._look_closely)
        described, run = self._shown(model, found), self.parts.trainer.under_way(model_id)
        return described | {
            "in_training_state": ModelStatus(described["status"]).in_training,
            "file_size_mb": round(model.pickle.st_size / 2**20, 2) if model.pickle else 0.0,
            "progress": run.progress.model_dump() if run else None,
        }

    @changing_verb_unless("dry_run")
    async def delete_model(self, model_id: KnownId, *, force: Switch = False, dry_run: Switch = False) -> Result:
        """Remove every file of a model, its versions included. Tasks that name it forbid that unless ``force``.

        Args:
            force: delete it all the same; the tasks stay.
            dry_run: only say what would go.
        """
        await self.parts.models.read(model_id)
        tasks = await self._tasks_of(model_id)
        if dry_run:
            return {
                "message": f"Model {model_id} was not deleted: this is what would go.",
                "model_id": model_id,
                "status": "dry_run",
                "files_deleted": await self.parts.models.files_of(model_id),
                "tasks_affected": tasks,
            }
        if tasks and not force:
            raise ModelInUse(
                f"Model {shown(model_id)} is trained by {', '.join(tasks)}: remove these tasks first, "
                "or pass force=true to delete it all the same."
            )
        deleted = await self._delete(model_id)
        return {
            "message": f"Model {model_id} was deleted.",
            "model_id": model_id,
            "status": "deleted",
            "files_deleted": deleted,
            "tasks_affected": tasks,
        }

    async def _delete(self, model_id: str) -> list[str]:
        trainer = self.parts.trainer
        with trainer.hold(model_id):
            if run := trainer.runs.get(model_id):
                await trainer.stop([run])
            async with self.parts.models.locks.changing(model_id):
                deleted = await self.parts.models.delete(model_id)
                self.parts.catalog.drop(model_id)
        return deleted

    async def _tasks_of(self, model_id: str) -> list[str]:
        wanted = await self.parts.runner.wanted()
        return [name for name, one in wanted.items() if isinstance(one, TaskSpec) and one.model_id == model_id]
