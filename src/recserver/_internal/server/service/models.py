"""Operations on models."""

from __future__ import annotations

import asyncio

from recserver._internal.algorithms.lookup import describe_algorithms, load_algorithm
from recserver._internal.core.clock import timestamp
from recserver._internal.core.errors import ModelBusy, ModelExists, ModelInUse, quoted
from recserver._internal.core.validation.values import (
    Bool,
    JsonObject,
    KnownId,
    NewModelId,
    Text,
    Title,
    require_new,
)
from recserver._internal.registry.consistent_reads import read_all_consistently, read_consistently
from recserver._internal.registry.model_config import new_config
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.quality_gate import QualityGate, QualityGateInput
from recserver._internal.results.models import AlgorithmList, CreatedModel, DeletedModel, ModelDetails, ModelInfo
from recserver._internal.results.runs import TrainingProgress
from recserver._internal.server.service.model_views import ModelViews
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.tasks import readable_tasks


class ModelOperations(ModelViews):
    """Create, show and delete models."""

    tag = "Models"

    @operation("GET", scope="read")
    async def get_available_algorithms(self) -> AlgorithmList:
        """All algorithms, with a description and their default hyperparameters."""
        return AlgorithmList(algorithms=await asyncio.to_thread(describe_algorithms))

    @operation(
        "POST",
        scope="train",
        changes="definitions",
        example={"model_id": "coffee", "algorithm": "nmf", "hyperparameters": {"n_components": 16}},
    )
    async def create_model(
        self,
        model_id: NewModelId,
        *,
        algorithm: Text,
        model_name: Title | None = None,
        message: Text = "",
        hyperparameters: JsonObject | None = None,
        quality_gate: QualityGateInput | None = None,
        overwrite: Bool = False,
    ) -> CreatedModel:
        """Write the config of a model. A task trains it.

        Args:
            model_id: its id.
            algorithm: see ``get_available_algorithms``.
            model_name: its name for people; by default the id.
            message: a description.
            hyperparameters: of the algorithm; by default those of ``get_available_algorithms``.
            quality_gate: what a new version must reach to replace the serving one.
            overwrite: replace an existing model, and delete its versions.

        Raises:
            InvalidInput: if the algorithm or a hyperparameter is invalid.
            ModelExists: if there is such a model, unless ``overwrite``.
            ModelBusy: if it is being trained.
        """
        services = self._services
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
            config["quality_gate"] = QualityGate(**quality_gate).model_dump()
        if reason := services.trainer.blocking_reason(model_id):
            raise ModelBusy(f"{reason} Overwrite it when that has ended.")
        with services.trainer.block_training(model_id):
            async with services.models.locks.changing(model_id):
                await services.models.create(model_id, config)
                services.model_cache.remove(model_id)
        await services.scheduler.reconcile()
        return CreatedModel(
            message=f"Model {model_id} was created; add a task to train it.",
            model_id=model_id,
            status=config["status"],
            algorithm=algorithm,
            model_type=config["model_type"],
            hyperparameters=config["hyperparameters"],
            warnings=warnings,
        )

    @operation("GET", scope="read")
    async def list_models(self) -> dict[str, ModelInfo]:
        """All models by id. No model is loaded, so that damage inside a file shows only after it was loaded."""
        models = await read_all_consistently(self._services.models, self._inspect)
        return {model.model_id: ModelInfo.from_dict(self._display(model, findings)) for model, findings in models}

    @operation("GET", "/{model_id}", scope="read", example={"model_id": "coffee"})
    async def get_model_info(self, model_id: KnownId) -> ModelDetails:
        """One model, and the progress of its training.

        Args:
            model_id: the model. It is loaded, if there is memory for it.

        Raises:
            ModelNotFound: if there is no such model.
        """
        model, findings = await read_consistently(self._services.models, model_id, self._load_and_inspect)
        described, run = self._display(model, findings), self._services.trainer.under_way(model_id)
        return ModelDetails.from_dict(
            described
            | {
                "in_training_state": ModelStatus(described["status"]).in_training,
                "file_size_mb": round(model.file_stat.st_size / 2**20, 2) if model.file_stat else 0.0,
                "progress": TrainingProgress(**run.progress.model_dump()) if run else None,
            }
        )

    @operation(
        "DELETE",
        "/{model_id}",
        scope="admin",
        changes="definitions",
        dry_run="dry_run",
        example={"model_id": "coffee", "dry_run": True},
    )
    async def delete_model(self, model_id: KnownId, *, force: Bool = False, dry_run: Bool = False) -> DeletedModel:
        """Delete all files of a model, including its versions. An active training is cancelled.

        Args:
            model_id: the model.
            force: delete the model even if tasks name it; the tasks stay.
            dry_run: delete nothing, and list what would be deleted.

        Raises:
            ModelNotFound: if there is no such model.
            ModelInUse: if tasks name the model, unless ``force``.
        """
        await self._services.models.read(model_id)
        specs = await readable_tasks(self._services.runner)
        tasks = [name for name, spec in specs.items() if spec.model_id == model_id]
        if dry_run:
            files = await asyncio.to_thread(self._services.models.files_of, model_id)
            message, status = f"Model {model_id} was not deleted: this is what would be deleted.", "dry_run"
        elif tasks and not force:
            raise ModelInUse(
                f"Model {quoted(model_id)} is trained by {', '.join(tasks)}: remove these tasks first, "
                "or pass force=true to delete the model anyway."
            )
        else:
            files = await self._delete(model_id)
            message, status = f"Model {model_id} was deleted.", "deleted"
        return DeletedModel(
            message=message, model_id=model_id, status=status, files_deleted=files, tasks_affected=tasks
        )

    async def _delete(self, model_id: str) -> list[str]:
        trainer = self._services.trainer
        with trainer.block_training(model_id):
            if run := trainer.runs.get(model_id):
                await trainer.stop([run])
            async with self._services.models.locks.changing(model_id):
                deleted = await self._services.models.delete(model_id)
                self._services.model_cache.remove(model_id)
        return deleted
