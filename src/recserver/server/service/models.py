"""Operations on models."""

from __future__ import annotations

import asyncio

from recserver.algorithms.lookup import describe_algorithms, load_algorithm
from recserver.core.clock import timestamp
from recserver.core.errors import ModelBusy, ModelExists, ModelInUse, quoted
from recserver.core.validation.values import Bool, JsonObject, KnownId, NewModelId, Text, Title, require_new
from recserver.registry.consistent_reads import read_all_consistently, read_consistently
from recserver.registry.model_config import new_config
from recserver.registry.model_status import ModelStatus
from recserver.registry.quality_gate import QualityGate
from recserver.server.service.model_views import ModelViews
from recserver.server.service.operation_decorators import (
    Result,
    mutation,
    mutation_unless_dry_run,
    operation,
    with_warnings,
)
from recserver.server.service.tasks import readable_tasks


class ModelOperations(ModelViews):
    """Create, show and delete models."""

    @operation
    async def get_available_algorithms(self) -> Result:
        """All algorithms by name, with a description and their default hyperparameters."""
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
        """Write the config of a model. A task trains it."""
        services = self.services
        method = await asyncio.to_thread(load_algorithm, algorithm)
        checked, warnings = method.check(hyperparameters or {})
        require_new(ModelExists, "Model", model_id, await services.models.ids(), overwrite)
        config = new_config(
            model_id,
            algorithm,
            method.model_type,
            {**method.default_params, **checked},
            timestamp(services.clock.now()),
            model_name=model_name or model_id,
            message=message,
        )
        if quality_gate is not None:
            config["quality_gate"] = quality_gate.model_dump()
        if reason := services.trainer.blocking_reason(model_id):
            raise ModelBusy(f"{reason} Overwrite it when that has ended.")
        with services.trainer.block_training(model_id):
            async with services.models.locks.changing(model_id):
                await services.models.create(model_id, config)
                services.model_cache.remove(model_id)
        await services.scheduler.reconcile()
        shown = ("model_id", "status", "algorithm", "model_type", "hyperparameters")
        result = {"message": f"Model {model_id} was created; add a task to train it."}
        return with_warnings(result | {name: config[name] for name in shown}, warnings)

    @operation
    async def list_models(self) -> Result:
        """All models by id."""
        models = await read_all_consistently(self.services.models, self._inspect)
        return {model.model_id: self._display(model, findings) for model, findings in models}

    @operation
    async def get_model_info(self, model_id: KnownId) -> Result:
        """One model, and the progress of its training."""
        model, findings = await read_consistently(self.services.models, model_id, self._load_and_inspect)
        described, run = self._display(model, findings), self.services.trainer.under_way(model_id)
        return described | {
            "in_training_state": ModelStatus(described["status"]).in_training,
            "file_size_mb": round(model.file_stat.st_size / 2**20, 2) if model.file_stat else 0.0,
            "progress": run.progress.model_dump() if run else None,
        }

    @mutation_unless_dry_run
    async def delete_model(self, model_id: KnownId, *, force: Bool = False, dry_run: Bool = False) -> Result:
        """Delete all files of a model, including its versions.

        Args:
            force: delete the model even if tasks name it; the tasks stay.
            dry_run: delete nothing, and list what would be deleted.

        Raises:
            ModelInUse: if tasks name the model, unless ``force``.
        """
        await self.services.models.read(model_id)
        specs = await readable_tasks(self.services.runner)
        tasks = [name for name, spec in specs.items() if spec.model_id == model_id]
        if dry_run:
            files = await asyncio.to_thread(self.services.models.files_of, model_id)
            message, status = f"Model {model_id} was not deleted: this is what would be deleted.", "dry_run"
        elif tasks and not force:
            raise ModelInUse(
                f"Model {quoted(model_id)} is trained by {', '.join(tasks)}: remove these tasks first, "
                "or pass force=true to delete the model anyway."
            )
        else:
            files = await self._delete(model_id)
            message, status = f"Model {model_id} was deleted.", "deleted"
        return {
            "message": message,
            "model_id": model_id,
            "status": status,
            "files_deleted": files,
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
