"""Verbs about the versions of models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from recserver.core.errors import ModelBusy
from recserver.core.validation.values import Bool, KnownId, WholeNumber, real_number
from recserver.registry.consistent_reads import read_consistently
from recserver.registry.model_store import StoredModel
from recserver.server.service.operation import Operations, Result, mutation, operation
from recserver.training.publisher import quality_gate

VersionNumber = Annotated[WholeNumber, Field(ge=1)]
Fraction = Annotated[float, BeforeValidator(real_number), Field(ge=0, le=1)]


class VersionOperations(Operations):
    """Look at the versions of a model, and choose which one serves."""

    @operation
    async def list_model_versions(self, model_id: KnownId) -> Result:
        """The versions of a model that are kept, newest first, and what the model's files take on the disk."""

        async def look(_: StoredModel) -> Result:
            data = await self.services.versions.describe_all(model_id)
            return {"data": data, "bytes": await self.services.models.disk_use(model_id)}

        return (await read_consistently(self.services.models, model_id, look))[1]

    @mutation
    async def rollback_model(self, model_id: KnownId, *, model_version: VersionNumber | None = None) -> Result:
        """Let an earlier version answer again: the one given, or the one that served before."""
        await self.services.models.read(model_id)
        number = await self.services.versions.roll_back(model_id, model_version)
        return _result(f"Version {number} of model {model_id} serves again.", model_id, number)

    @mutation
    async def promote_model(self, model_id: KnownId, *, model_version: VersionNumber) -> Result:
        """Let a version answer that the quality gate refused, or any other that is kept."""
        await self.services.models.read(model_id)
        if reason := self.services.trainer.blocking_reason(model_id):
            raise ModelBusy(f"{reason} Promote a version when that has ended.")
        await self.services.versions.promote(model_id, model_version)
        return _result(f"Version {model_version} of model {model_id} serves.", model_id, model_version)

    @mutation
    async def pin_model_version(
        self, model_id: KnownId, *, model_version: VersionNumber, pinned: Bool = True
    ) -> Result:
        """Keep a version for good; while it serves, no new one takes its place.

        Args:
            pinned: false ends that.
        """
        await self.services.models.read(model_id)
        waiting = await self.services.versions.pin(model_id, model_version, pinned)
        said = "is pinned" if pinned else "is not pinned any more"
        hint = f"; version {waiting} was kept meanwhile, and POST /promote_model lets it serve" if waiting else ""
        return _result(f"Version {model_version} of model {model_id} {said}{hint}.", model_id, model_version)

    @mutation
    async def update_quality_gate(
        self,
        model_id: KnownId,
        *,
        max_drop: Fraction | None = None,
        min_share: Fraction | None = None,
        beat_popularity: Bool | None = None,
    ) -> Result:
        """Change what a new version of a model must reach to take the place of the one that serves.

        Args:
            max_drop: share by which its NDCG@10 may be lower.
            min_share: share of interactions, users and items that it must know.
            beat_popularity: whether its NDCG@10 must be higher than that of what is popular.
        """
        parts = self.services
        given = {"max_drop": max_drop, "min_share": min_share, "beat_popularity": beat_popularity}
        with parts.trainer.block_training(model_id):
            model = await parts.models.read(model_id)
            if run := parts.trainer.runs.get(model_id):
                raise ModelBusy(
                    f"Model {model_id} is being trained by task {run.task_name}: try again after that."
                )
            gate = quality_gate(model)
            gate = gate.model_copy(update={key: value for key, value in given.items() if value is not None})
            thresholds: dict[str, Any] = gate.model_dump()
            await parts.models.update_config(model_id, quality_gate=thresholds)
        return {
            "message": f"The quality gate of model {model_id} was changed.",
            "model_id": model_id,
            **thresholds,
        }


def _result(message: str, model_id: str, number: int) -> Result:
    return {"message": message, "model_id": model_id, "model_version": number}
