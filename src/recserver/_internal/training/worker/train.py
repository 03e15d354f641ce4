"""One training, from its job to the packed model in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import Algorithm, FitContext, FittedModel
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.errors import SourceFailed, SourceUnchanged
from recserver._internal.recommend.model.attribute_arrays import HEADER_KEY
from recserver._internal.storage.model_file import JSON, PackedFile, pack
from recserver._internal.storage.model_file.id_table import pack_ids
from recserver._internal.training.ingest.attribute_columns import PackedAttributes
from recserver._internal.training.ingest.item_features import ItemFeatures, collect_features
from recserver._internal.training.ingest.source_reader import CollectedData, OnProgress, collect
from recserver._internal.training.jobs import DataReport, Progress, TrainingJob, TrainingResult
from recserver._internal.training.stage_timer import StageTimer
from recserver._internal.training.worker.evaluate import evaluate, fit_checked
from recserver._internal.training.worker.warm_start import PreviousModel, definition_json, load_previous

PROGRESS_INTERVAL = 0.25
"""Seconds between reports of a fit's progress."""


def train(job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
    """Read the job's sources, evaluate its algorithm, fit it, and write the packed model to ``job.out``.

    Raises:
        TrainingFailed: with the sentence that becomes the model's ``error``.
        SourceUnchanged: if nothing has changed since the last training, and the job allows to end then.
    """
    on_progress(Progress(stage="reading"))
    stages = StageTimer()
    collected = collect(job, on_progress, stages)
    interactions, rows_read = collected.interactions, collected.data_report.rows_read
    features, data_report = _read_features(job, collected, on_progress, stages)
    digest = training_digest(job, interactions, features.attributes)
    if digest == job.previous_digest:
        raise SourceUnchanged(
            "The data and the hyperparameters are those of the last training.", data_report.model_dump()
        )
    reporter = ProgressReporter(on_progress, stages, rows_read)
    algorithm = load_algorithm(job.algorithm)
    reporter.begin("evaluating")
    previous = load_previous(job, algorithm, interactions)
    hyperparameters = {**job.hyperparameters, **previous.tuned}
    evaluation = evaluate(algorithm, hyperparameters, interactions, FitContext(job.threads, reporter))
    reporter.begin("fitting")
    context = FitContext(job.threads, reporter, previous.warm_start)
    fitted = fit_checked(algorithm, interactions, {**hyperparameters, **evaluation.tuned}, context)
    reporter.begin("packing")
    tuned = {**previous.tuned, **evaluation.tuned}
    if not fitted.warm_started:
        previous = PreviousModel()
    header = previous.header(job, interactions, tuned)
    result = finish_training(
        job, algorithm, interactions, fitted, digest, header=header, attributes=features.attributes
    )
    data_report = data_report.model_copy(update={"seconds": stages.end()})
    changes = {
        "data_report": data_report,
        "source_state": collected.source_state,
        "model_metrics": result.model_metrics | {"warm_starts": previous.warm_starts} | evaluation.metrics,
        "warnings": [*result.warnings, *_data_warnings(data_report), *features.warnings, *evaluation.warnings],
    }
    return result.model_copy(update=changes)


def _read_features(
    job: TrainingJob, collected: CollectedData, on_progress: OnProgress, stages: StageTimer
) -> tuple[ItemFeatures, DataReport]:
    """The item features, and the report of everything that was read."""
    read, data_report = collected.data_report.rows_read, collected.data_report
    if job.item_features is not None:
        stages.begin("features")
    try:
        features = collect_features(
            job,
            collected.interactions.items,
            lambda rows: on_progress(Progress(stage="reading", rows_read=read + rows)),
        )
    except SourceFailed as error:
        raise error.with_message(
            str(error), data_report.model_copy(update={"seconds": stages.end()}).model_dump()
        ) from None
    return features, data_report.model_copy(update={"item_features": features.report, "seconds": stages.end()})


class ProgressReporter:
    """Begins stages, and reports the progress of their fits a few times a second."""

    def __init__(self, on_progress: OnProgress, stages: StageTimer, rows_read: int) -> None:
        self._on_progress, self._stages, self._rows_read = on_progress, stages, rows_read
        self._clock, self._stage, self._next_report = SystemClock(), "", 0.0

    def begin(self, stage: str) -> None:
        self._stages.begin(stage)
        self._stage = stage
        self._on_progress(Progress(stage=stage, rows_read=self._rows_read))

    def __call__(self, iteration: int, iterations: int, loss: float) -> None:
        if self._clock.monotonic() < self._next_report:
            return
        self._next_report = self._clock.monotonic() + PROGRESS_INTERVAL
        progress = {"iteration": iteration, "iterations": iterations, "loss": loss if isfinite(loss) else None}
        self._on_progress(Progress(stage=self._stage, rows_read=self._rows_read, **progress))


def _data_warnings(report: DataReport) -> list[str]:
    """Warnings about the data."""
    replaced = [
        f"In {count} of {report.rows_kept} rows the {reason}, such as {report.examples[reason]}: each counts 1."
        for reason, count in report.replaced.items()
    ]
    return [*replaced, *report.hints]


def training_digest(
    job: TrainingJob, interactions: Interactions, attributes: PackedAttributes | None = None
) -> str:
    """SHA-256 of everything that decides the result of a training, item features included."""
    digest = hashlib.sha256(definition_json(job, interactions))
    for ids in (interactions.users, interactions.items):
        digest.update(json.dumps(ids).encode())
    for array in (interactions.indptr, interactions.indices, interactions.ratings, interactions.times):
        if array is not None:
            digest.update(array.tobytes())
    if attributes is not None:
        digest.update(attributes.digest().encode())
    return digest.hexdigest()


def finish_training(
    job: TrainingJob,
    algorithm: Algorithm,
    interactions: Interactions,
    fitted: FittedModel,
    digest: str,
    *,
    header: Mapping[str, JSON] | None = None,
    attributes: PackedAttributes | None = None,
) -> TrainingResult:
    """Write the packed model to ``job.out``, with ``header`` added to its usual header."""
    full_header: dict[str, JSON] = {
        "model_id": job.model_id,
        "model_version": job.model_version,
        "algorithm": job.algorithm,
        "model_type": algorithm.model_type,
    }
    full_header |= header or {}
    if fitted.fold_in is not None:
        full_header["fold_in"] = fitted.fold_in.header()
    arrays = _model_arrays(interactions, fitted)
    if attributes is not None:
        full_header[HEADER_KEY] = attributes.header
        arrays |= attributes.arrays
    packed = pack(job.out, full_header, arrays)
    result = _result(algorithm, interactions, fitted, packed, digest)
    if attributes is not None:
        for stats in (result.model_metrics, result.final_stats):
            stats["has_item_features"] = True
    return result


def _model_arrays(interactions: Interactions, fitted: FittedModel) -> dict[str, Any]:
    user_text, user_offsets = pack_ids(interactions.users)
    item_text, item_offsets = pack_ids(interactions.items)
    arrays: dict[str, Any] = {
        "user_text": user_text,
        "user_offsets": user_offsets,
        "item_text": item_text,
        "item_offsets": item_offsets,
        "user_factors": fitted.users,
        "item_factors": np.ascontiguousarray(fitted.items.T),
        "seen_indptr": interactions.indptr,
        "seen_indices": interactions.indices,
        "item_counts": interactions.item_counts(),
        "item_norms": np.linalg.norm(fitted.items, axis=1),
    }
    if fitted.item_scale is not None:
        arrays["item_scale"] = fitted.item_scale
    if (recent := interactions.recent_popularity(SystemClock().now().timestamp())) is not None:
        arrays["item_recent"] = recent
    if fitted.neighbors is not None:
        arrays |= {
            "neighbor_indptr": fitted.neighbors.indptr,
            "neighbor_indices": fitted.neighbors.indices,
            "neighbor_weights": fitted.neighbors.weights,
            "seen_strengths": fitted.neighbors.confidences,
        }
    if fitted.fold_in is not None:
        arrays |= {"fold_in_inputs": fitted.fold_in.input_scale, "fold_in_gram": fitted.fold_in.gram}
        all_equal = fitted.fold_in.weighting.feedback == "implicit" and interactions.ratings.min() > 0
        if fitted.neighbors is None and fitted.confidences is not None and not all_equal:
            arrays["seen_strengths"] = fitted.confidences
    return arrays


def _result(
    algorithm: Algorithm, interactions: Interactions, fitted: FittedModel, packed: PackedFile, digest: str
) -> TrainingResult:
    statistics = interactions.statistics()
    rejected = sum(interactions.rejected.values())
    warnings = list(fitted.warnings)
    if rejected:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in interactions.rejected.items())
        warnings.append(f"{rejected} of {rejected + interactions.rows_used} rows were left out ({reasons}).")
    counts = ("n_users", "n_items", "n_interactions", "sparsity")
    return TrainingResult(
        model_type=algorithm.model_class,
        size=packed.size,
        sha256=packed.sha256,
        digest=digest,
        hyperparameters=fitted.hyperparameters,
        model_metrics={name: statistics[name] for name in counts} | fitted.metrics,
        training_stats=statistics,
        final_stats={
            "total_interactions": interactions.rows_used,
            "unique_users": statistics["n_users"],
            "unique_items": statistics["n_items"],
            "has_user_features": False,
            "has_item_features": False,
            "rows_rejected": rejected,
            "rejected": interactions.rejected,
        },
        warnings=warnings,
    )
