"""Verbs about models."""

from __future__ import annotations

import asyncio

from recserver.algorithms.lookup import describe_algorithms
from recserver.algorithms.lookup import load_algorithm as algorithm_called
from recserver.core.clock import timestamp
from recserver.core.errors import ModelBusy, ModelExists, ModelInUse, quoted
from recserver.core.validation.values import Bool, JsonObject, KnownId, NewModelId, Text, Title, require_new
from recserver.registry.consistent_reads import read_all_consistently, read_consistently
from recserver.registry.model_config import new_config
from recserver.registry.model_status import ModelStatus
from recserver.registry.quality_gate import QualityGate
from recserver.server.service.model_views import ModelViews
from recserver.server.service.operation import Result, mutation, mutation_unless, operation
from recserver.training.task import TaskSpec


class ModelOperations(ModelViews):
    """Create, look at and delete models."""

    @operation
    async def get_available_algorithms(self) -> Result:
        """All algorithms by name, with what they are for and their default hyperparameters."""
        return {"algorithms": await asyncio.to_thread(describe_algorithms)}

    @mutation
    async def create_model(
        self,
        model_id: NewModelId,
        *,
        algorithm: Text,
        model_name: Title | None = None,
        message: Text = "",
        hyperparameters: JsonObject | None = None,
        quality_gate: QualityGate | None = None,
        overwrite: Bool = False,
    ) -> Result:
        """Write a model's config. Nothing is trained until a task does it."""
        parts = self.services
        method = await asyncio.to_thread(algorithm_called, algorithm)
        checked, warnings = method.check(hyperparameters or {})
        require_new(ModelExists, "Model", model_id, await parts.models.ids(), overwrite)
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
        if reason := parts.trainer.blocking_reason(model_id):
            raise ModelBusy(f"{reason} Overwrite it when that has ended.")
        with parts.trainer.block_training(model_id):
            async with parts.models.locks.changing(model_id):
                await parts.models.create(model_id, config)
                parts.model_cache.remove(model_id)
        await parts.scheduler.reconcile()
        answered = ("model_id", "status", "algorithm", "model_type", "hyperparameters")
        result: Result = {"message": f"Model {model_id} was created; add a task to train it."}
        result |= {name: config[name] for name in answered}
        return result | ({"warnings": warnings} if warnings else {})

    @operation
    async def list_models(self) -> Result:
        """All models by id."""
        seen = await read_all_consistently(self.services.models, self._look)
        return {model.model_id: self._shown(model, found) for model, found in seen}

    @operation
    async def get_model_info(self, model_id: KnownId) -> Result:
        """One model, and how far its training is."""
        model, found = await read_consistently(self.services.models, model_id, self._look_closely)
        described, run = self._shown(model, found), self.services.trainer.under_way(model_id)
        return described | {
            "in_training_state": ModelStatus(described["status"]).in_training,
            "file_size_mb": round(model.file_stat.st_size / 2**20, 2) if model.file_stat else 0.0,
            "progress": run.progress.model_dump() if run else None,
        }

    @mutation_unless("dry_run")
    async def delete_model(self, model_id: KnownId, *, force: Bool = False, dry_run: Bool = False) -> Result:
        """Remove every file of a model, its versions included. Tasks that name it forbid that unless ``force``.

        Args:
            force: delete it all the same; the tasks stay.
            dry_run: only say what would go.
        """
        await self.services.models.read(model_id)
        tasks = await self._tasks_of(model_id)
        if dry_run:
            return {
                "message": f"Model {model_id} was not deleted: this is what would go.",
                "model_id": model_id,
                "status": "dry_run",
                "files_deleted": await asyncio.to_thread(self.services.models.files_of, model_id),
                "tasks_affected": tasks,
            }
        if tasks and not force:
            raise ModelInUse(
                f"Model {quoted(model_id)} is trained by {', '.join(tasks)}: remove these tasks first, "
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
        trainer = self.services.trainer
        with trainer.block_training(model_id):
            if run := trainer.runs.get(model_id):
                await trainer.stop([run])
            async with self.services.models.locks.changing(model_id):
                deleted = await self.services.models.delete(model_id)
                self.services.model_cache.remove(model_id)
        return deleted

    async def _tasks_of(self, model_id: str) -> list[str]:
        wanted = await self.services.runner.read_tasks()
        return [name for name, one in wanted.items() if isinstance(one, TaskSpec) and one.model_id == model_id]
