"""How models are shown: their files and what is in memory, as of one moment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.core.errors import InvalidInput
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import StoredModel
from recserver._internal.server.service.services import Operations


@dataclass(frozen=True, slots=True)
class Findings:
    """What a model's config does not say.

    Attributes:
        unavailable: why no version can serve; None if one can.
        untrainable: why the model can never be trained; None if it can.
    """

    unavailable: str | None
    untrainable: str | None


class ModelViews(Operations):
    """Base class of the operations that show models.

    They pass :meth:`_inspect` or :meth:`_load_and_inspect` to
    :func:`~recserver._internal.registry.consistent_reads.read_consistently`, and await nothing afterwards.
    """

    async def _inspect(self, model: StoredModel) -> Findings:
        """Inspect a model without loading it."""
        unavailable = await self._services.model_cache.quick_unavailable_reason(model)
        return Findings(unavailable, await _untrainable_reason(model))

    async def _load_and_inspect(self, model: StoredModel) -> Findings:
        """Inspect a model after loading it, if there is memory for it."""
        return Findings(
            await self._services.model_cache.unavailable_reason(model), await _untrainable_reason(model)
        )

    def _display(self, model: StoredModel, findings: Findings) -> dict[str, Any]:
        """The config of a model, updated by its other files and its active training."""
        config, run = dict(model.config), self._services.trainer.under_way(model.model_id)
        if findings.untrainable is not None:
            config |= {"status": ModelStatus.FAILED.value, "error": findings.untrainable}
        if run is not None and run.status is not None:  # the config may be outdated: the disk may be full
            config["status"] = run.status.value
        has_reason = config["status"] in (ModelStatus.FAILED, ModelStatus.TRAINING, ModelStatus.VALIDATING)
        lost = model.file_stat is not None or config["status"] == ModelStatus.COMPLETED
        if findings.unavailable and lost and not has_reason:
            config |= {"status": ModelStatus.INITIALIZING.value, "error": findings.unavailable}
        return config | {
            "model_file_exists": model.file_stat is not None,
            "loaded_in_memory": self._services.model_cache.is_loaded(model.model_id),
            "needs_training": findings.unavailable is not None,
        }


async def _untrainable_reason(model: StoredModel) -> str | None:
    if model.unreadable_reason is None:
        try:
            await asyncio.to_thread(load_algorithm, model.config["algorithm"])
        except InvalidInput as error:
            return str(error)
    return None
