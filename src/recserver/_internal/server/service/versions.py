"""Operations on the versions of models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from recserver._internal.core.errors import ModelBusy
from recserver._internal.core.validation.values import Bool, KnownId, WholeNumber
from recserver._internal.registry.consistent_reads import read_consistently
from recserver._internal.registry.model_store import StoredModel
from recserver._internal.registry.quality_gate import Fraction
from recserver._internal.results.models import QualityGateChange, VersionChange, VersionList
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.services import Operations
from recserver._internal.training.publisher import quality_gate

VersionNumber = Annotated[WholeNumber, Field(ge=1)]


class VersionOperations(Operations):
    """List the versions of a model, and choose the serving one."""

    tag = "Versions"

    @operation("GET", "/{model_id}", scope="read", example={"model_id": "coffee"})
    async def list_model_versions(self, model_id: KnownId) -> VersionList:
        """The stored versions of a model, newest first, and the bytes of its files on disk.

        Args:
            model_id: the model.

        Raises:
            ModelNotFound: if there is no such model.
        """

        async def describe(_: StoredModel) -> VersionList:
            data = await self._services.versions.describe_all(model_id)
            return VersionList(data=data, bytes=await self._services.models.disk_use(model_id))

        return (await read_consistently(self._services.models, model_id, describe))[1]

    @operation("POST", scope="train", changes="definitions", example={"model_id": "coffee"})
    async def rollback_model(
        self, model_id: KnownId, *, model_version: VersionNumber | None = None
    ) -> VersionChange:
        """Return to an earlier version.

        Args:
            model_id: the model.
            model_version: by default the version that served before the serving one.

        Raises:
            ModelNotFound: if there is no such model.
            VersionNotFound: if the version is not stored, or there is no earlier one.
            UnreadableModel: if the version is damaged.
        """
        await self._services.models.read(model_id)
        number = await self._services.versions.roll_back(model_id, model_version)
        return _result(f"Version {number} of model {model_id} serves again.", model_id, number)

    @operation("POST", scope="train", changes="definitions", example={"model_id": "coffee", "model_version": 1})
    async def promote_model(self, model_id: KnownId, *, model_version: VersionNumber) -> VersionChange:
        """Let a stored version serve, even if the quality gate rejected it.

        Args:
            model_id: the model.
            model_version: the version.

        Raises:
            ModelNotFound: if there is no such model.
            ModelBusy: if it is being trained.
            VersionNotFound: if the version is not stored.
            UnreadableModel: if the version is damaged.
        """
        await self._services.models.read(model_id)
        if reason := self._services.trainer.blocking_reason(model_id):
            raise ModelBusy(f"{reason} Promote a version when that has ended.")
        await self._services.versions.promote(model_id, model_version)
        return _result(f"Version {model_version} of model {model_id} serves.", model_id, model_version)

    @operation("POST", scope="train", changes="definitions", example={"model_id": "coffee", "model_version": 1})
    async def pin_model_version(
        self, model_id: KnownId, *, model_version: VersionNumber, pinned: Bool = True
    ) -> VersionChange:
        """Store a version permanently; while it serves, no new version replaces it.

        Args:
            model_id: the model.
            model_version: the version.
            pinned: false unpins it.

        Raises:
            ModelNotFound: if there is no such model.
            VersionNotFound: if the version is not stored.
        """
        await self._services.models.read(model_id)
        waiting = await self._services.versions.pin(model_id, model_version, pinned)
        state = "is pinned" if pinned else "is no longer pinned"
        hint = f"; version {waiting} is stored but not promoted: see POST /promote_model" if waiting else ""
        return _result(f"Version {model_version} of model {model_id} {state}{hint}.", model_id, model_version)

    @operation("POST", scope="train", changes="definitions", example={"model_id": "coffee", "max_drop": 0.05})
    async def update_quality_gate(
        self,
        model_id: KnownId,
        *,
        max_drop: Fraction | None = None,
        min_share: Fraction | None = None,
        beat_popularity: Bool | None = None,
    ) -> QualityGateChange:
        """Change what a new version of a model must reach to replace the serving one.

        Args:
            model_id: the model.
            max_drop: fraction by which its NDCG@10 may be lower.
            min_share: minimum of its interactions, users and items, as a fraction of those of the serving version.
            beat_popularity: whether its NDCG@10 must be higher than that of popular items.

        Raises:
            ModelNotFound: if there is no such model.
            ModelBusy: if it is being trained.
        """
        services = self._services
        changes = {"max_drop": max_drop, "min_share": min_share, "beat_popularity": beat_popularity}
        with services.trainer.block_training(model_id):
            model = await services.models.read(model_id)
            if run := services.trainer.runs.get(model_id):
                raise ModelBusy(
                    f"Model {model_id} is being trained by task {run.task_name}: try again afterwards."
                )
            gate = quality_gate(model)
            gate = gate.model_copy(update={key: value for key, value in changes.items() if value is not None})
            thresholds: dict[str, Any] = gate.model_dump()
            await services.models.update_config(model_id, quality_gate=thresholds)
        return QualityGateChange(
            message=f"The quality gate of model {model_id} was changed.", model_id=model_id, **thresholds
        )


def _result(message: str, model_id: str, number: int) -> VersionChange:
    return VersionChange(message=message, model_id=model_id, model_version=number)
