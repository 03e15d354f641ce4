"""How a model is shown: by its files and by what memory holds of it, all of one moment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from recserver.algorithms.lookup import load_algorithm as algorithm_called
from recserver.core.errors import InvalidInput
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import StoredModel
from recserver.server.service.operation import Operations


@dataclass(frozen=True, slots=True)
class Findings:
    """What does not stand in a model's config.

    Attributes:
        unavailable: why no version of it can serve; None if one can.
        fault: why it cannot be trained whatever happens; None if it can.
    """

    unavailable: str | None
    fault: str | None


class ModelViews(Operations):
    """Base of the verbs that show models.

    They read a model with :meth:`_look` or :meth:`_look_closely` by
    :func:`~recserver.store.consistent_reads.read_consistently`, and await nothing from there to the answer.
    """

    async def _look(self, model: StoredModel) -> Findings:
        """What shows without loading the model."""
        return Findings(await self.services.model_cache.quick_unavailable_reason(model), await _fault(model))

    async def _look_closely(self, model: StoredModel) -> Findings:
        """What shows once the model is loaded, where memory has room for it."""
        return Findings(await self.services.model_cache.unavailable_reason(model), await _fault(model))

    def _shown(self, model: StoredModel, found: Findings) -> dict[str, Any]:
        """The config of a model and what follows from its other files and from its training."""
        config, run = dict(model.config), self.services.trainer.under_way(model.model_id)
        if found.fault is not None:
            config |= {"status": ModelStatus.FAILED.value, "error": found.fault}
        if run is not None and run.status is not None:  # also where the disk is full, or the config unreadable
            config["status"] = run.status.value
        told = ModelStatus.FAILED, ModelStatus.TRAINING, ModelStatus.VALIDATING
        lost = model.file_stat is not None or config["status"] == ModelStatus.COMPLETED
        if found.unavailable and lost and config["status"] not in told:
            config |= {"status": ModelStatus.INITIALIZING.value, "error": found.unavailable}
        return config | {
            "model_file_exists": model.file_stat is not None,
            "loaded_in_memory": self.services.model_cache.is_loaded(model.model_id),
            "needs_training": found.unavailable is not None,
        }


async def _fault(model: StoredModel) -> str | None:
    if model.unreadable_reason is not None:
        return None
    try:
        await asyncio.to_thread(algorithm_called, model.config["algorithm"])
    except InvalidInput as error:
        return str(error)
    return None
