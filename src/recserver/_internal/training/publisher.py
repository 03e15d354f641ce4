"""The end of a training: the new version is published, or stored if the quality gate rejects it."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recserver._internal.core.clock import Clock, timestamp
from recserver._internal.core.errors import InvalidInput, quoted
from recserver._internal.core.validation.messages import first_error
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import StoredModel
from recserver._internal.registry.quality_gate import QualityGate
from recserver._internal.registry.version_files import Version, new_version
from recserver._internal.registry.version_lifecycle import NOT_PROMOTED_PREFIX, ModelVersions
from recserver._internal.storage.model_file import PackedFile
from recserver._internal.training.active_run import Run, RunResult
from recserver._internal.training.jobs import TrainingResult

logger = logging.getLogger(__name__)


class Publisher:
    """Publishes new versions, unless they are worse than the serving one."""

    def __init__(self, versions: ModelVersions, clock: Clock) -> None:
        self._versions, self._clock = versions, clock

    async def publish(
        self, run: Run, packed: Path, result: TrainingResult, recommender: Recommender, serving: int | None
    ) -> RunResult:
        """Store a packed model with its metadata, and promote it if the quality gate allows it.

        Args:
            serving: the number of the serving version; None if there is none.

        Raises:
            ModelNotFound: if the model's config is missing.
            OSError: if it cannot be written; the previous version keeps serving.
        """
        version = _new_version(run, result, recommender, timestamp(self._clock.now()))
        metrics = version.metadata["metrics"]
        details = {"hyperparameters": result.hyperparameters, "metrics": metrics, "warnings": result.warnings}
        for warning in result.warnings:
            logger.warning("model %s: %s", run.model_id, warning)
        run_result = RunResult(
            "completed",
            model_version=version.model_version,
            data_report=version.metadata["data_report"],
            details=details,
        )
        if serving is not None:
            if reason := await self._rejection_reason(run, metrics, serving):
                return await self._store_rejected(run, packed, version, run_result, reason)
            if await self._versions.pinned_version(run.model_id):
                return await self._store_unpromoted(run, packed, version, run_result, serving)
        await self._versions.publish(run.model_id, packed, version, recommender)
        return run_result

    async def previous_training(self, model: StoredModel, newest: Version | None) -> dict[str, Any]:
        """The fields of a job that let a training of unchanged data end early.

        Empty if the last training failed, or if its version would be promoted now: then it is trained again.
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
        """Whether the newest version serves, or would be rejected again."""
        serving, chosen = await self._versions.serving(model.model_id)
        if newest.promoted:  # a rollback, else it was lost
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
            f"{NOT_PROMOTED_PREFIX}: version {version.model_version} is stored but does not serve, because "
            f"{reason}, or POST /promote_model."
        )
        await self._versions.store_candidate(
            run.model_id, packed, version, ModelStatus.FAILED, error=error, failed_at=version.created_at
        )
        return replace(result, outcome="failed", error=error)

    async def _store_unpromoted(
        self, run: Run, packed: Path, version: Version, result: RunResult, serving: int
    ) -> RunResult:
        warning = (
            f"Version {version.model_version} is stored but not promoted: version {serving} is pinned; POST "
            "/promote_model or unpin it."
        )
        logger.warning("model %s: %s", run.model_id, warning)
        warnings = [*result.details["warnings"], warning]
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
    """The version that a training produced."""
    return new_version(
        run.model_id,
        recommender.model_version,
        now,
        PackedFile(result.size, result.sha256),
        metrics=_finite_metrics({"training_time": round(run.elapsed, 3)} | result.model_metrics),
        metadata={
            "model_type": result.model_type,
            "hyperparameters": result.hyperparameters,
            "training_stats": result.training_stats,
            "data_digest": result.digest,
            "data_report": result.data_report.model_dump() if result.data_report else None,
            "source_state": result.source_state,
        },
        config={
            "training_completed_at": now,
            "final_stats": result.final_stats,
            "training_warnings": result.warnings,
        },
    )


def _finite_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that can be written as JSON."""
    return {key: one for key, one in metrics.items() if not isinstance(one, float) or math.isfinite(one)}
