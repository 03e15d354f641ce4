"""The end of a training: what it found is told, the gate is asked, and the new version serves or is kept."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recserver.core.clock import Clock, timestamp
from recserver.core.errors import InvalidInput, quoted
from recserver.core.validation.messages import first_error
from recserver.recommend.model.recommender import Recommender
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import StoredModel
from recserver.registry.quality_gate import QualityGate
from recserver.registry.version_lifecycle import NOT_PROMOTED_PREFIX, ModelVersions
from recserver.registry.version_store import Version
from recserver.training.jobs import TrainingResult
from recserver.training.run import Run, RunResult

logger = logging.getLogger(__name__)


class Publisher:
    """Publishes what trainings pack, unless it is worse than what serves."""

    def __init__(self, versions: ModelVersions, clock: Clock) -> None:
        self._versions, self._clock = versions, clock

    async def publish(
        self, run: Run, packed: Path, result: TrainingResult, recommender: Recommender, serving: int | None
    ) -> RunResult:
        """Put a packed model in place with all that is told about it, and let it answer, if the gate allows it.

        Args:
            serving: the number of the version that serves; None if none can.

        Raises:
            ModelNotFound: if the model's config is gone.
            OSError: if it cannot be written; the version before serves on.
        """
        version = _new_version(run, result, recommender, timestamp(self._clock.now()))
        metrics = version.metadata["metrics"]
        told = {"hyperparameters": result.hyperparameters, "metrics": metrics, "warnings": result.warnings}
        for warning in result.warnings:
            logger.warning("model %s: %s", run.model_id, warning)
        ending = RunResult(
            "completed",
            model_version=version.model_version,
            data_report=version.metadata["data_report"],
            details=told,
        )
        if serving is not None:
            if objection := await self._rejection_reason(run, metrics, serving):
                return await self._store_rejected(run, packed, version, ending, objection)
            if await self._versions.pinned_version(run.model_id):
                return await self._store_unpromoted(run, packed, version, ending, serving)
        await self._versions.publish(run.model_id, packed, version, recommender)
        return ending

    async def previous_training(self, model: StoredModel, newest: Version | None) -> dict[str, Any]:
        """What a training of unchanged data is compared with: what was learned from last, for a job.

        Nothing, if the last training ended badly, or if its version would serve now were it made again: then it is
        to be made again.
        """
        refused = model.status == ModelStatus.FAILED and str(model.config.get("error", "")).startswith(
            NOT_PROMOTED_PREFIX
        )
        if newest is None or not (refused or model.status in (ModelStatus.COMPLETED, ModelStatus.STOPPED)):
            return {}
        digest, state = newest.metadata.get("data_digest"), newest.metadata.get("source_state")
        if not isinstance(digest, str) or not await self._still_applies(model, newest):
            return {}
        return {"previous_digest": digest, "source_state": state if isinstance(state, dict) else {}}

    async def _still_applies(self, model: StoredModel, newest: Version) -> bool:
        """Whether the version that was trained last serves, or what keeps it from serving would do so again."""
        serving, chosen = await self._versions.serving(model.model_id)
        if newest.promoted:  # gone back from by hand, else it was lost
            return serving in (newest.model_version, chosen)
        if await self._versions.pinned_version(model.model_id):
            return True
        before, now = await self._versions.metrics(model.model_id), newest.metadata.get("metrics")
        return (
            quality_gate(model).rejection_reason(now if isinstance(now, dict) else {}, before, serving) is not None
        )

    async def _rejection_reason(self, run: Run, metrics: dict[str, Any], serving: int) -> str | None:
        if run.request.force:
            return None
        before = await self._versions.metrics(run.model_id)
        return quality_gate(run.request.model).rejection_reason(metrics, before, serving)

    async def _store_rejected(
        self, run: Run, packed: Path, version: Version, result: RunResult, reason: str
    ) -> RunResult:
        error = (
            f"{NOT_PROMOTED_PREFIX}: version {version.model_version} is kept but does not serve, for {reason}, or "
            "POST /promote_model."
        )
        await self._versions.store_candidate(
            run.model_id, packed, version, ModelStatus.FAILED, error=error, failed_at=version.created_at
        )
        return replace(result, outcome="failed", error=error)

    async def _store_unpromoted(
        self, run: Run, packed: Path, version: Version, result: RunResult, serving: int
    ) -> RunResult:
        said = (
            f"Version {version.model_version} is kept but does not serve: version {serving} is pinned; POST "
            "/promote_model or unpin it."
        )
        logger.warning("model %s: %s", run.model_id, said)
        warnings = [*result.details["warnings"], said]
        changes = {"training_completed_at": version.created_at, "training_warnings": warnings}
        await self._versions.store_candidate(run.model_id, packed, version, ModelStatus.COMPLETED, **changes)
        return replace(result, details={**result.details, "warnings": warnings})


def quality_gate(model: StoredModel) -> QualityGate:
    """The thresholds of a model, as its config has them.

    Raises:
        InvalidInput: if they cannot be used.
    """
    try:
        return QualityGate.model_validate(model.config.get("quality_gate") or {})
    except ValidationError as error:
        raise InvalidInput(
            f"The quality_gate of model {quoted(model.model_id)} cannot be used ({first_error(error)}): correct "
            "its config."
        ) from None


def _new_version(run: Run, result: TrainingResult, recommender: Recommender, now: str) -> Version:
    """What is told of a new version, in the metadata and in the config."""
    metrics = _finite_metrics({"training_time": round(run.elapsed, 3)} | result.model_metrics)
    metadata = {
        "model_id": run.model_id,
        "model_type": result.model_type,
        "saved_at": now,
        "file_path": f"models/{run.model_id}.pkl",
        "hyperparameters": result.hyperparameters,
        "training_stats": result.training_stats,
        "metrics": metrics,
        "model_version": recommender.model_version,
        "size": result.size,
        "sha256": result.sha256,
        "data_digest": result.digest,
        "data_report": result.data_report.model_dump() if result.data_report else None,
        "source_state": result.source_state,
    }
    config = {
        "training_completed_at": now,
        "last_saved_at": now,
        "model_version": recommender.model_version,
        "model_metrics": metrics,
        "final_stats": result.final_stats,
        "training_warnings": result.warnings,
    }
    return Version(model_version=recommender.model_version, created_at=now, metadata=metadata, config=config)


def _finite_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that can be written as JSON."""
    return {key: one for key, one in metrics.items() if not isinstance(one, float) or math.isfinite(one)}
