"""One training, from a job of about a kilobyte to a packed model in a file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from recserver.algorithms import Algorithm, Factors
from recserver.artifact import JSON, PackedFile, pack
from recserver.errors import SourceUnchanged
from recserver.ids import pack_ids
from recserver.interactions import Interactions
from recserver.plugins import algorithm
from recserver.specs.jobs import DataReport, Progress, TrainingJob, TrainingResult
from recserver.worker.collect import Report, Stages, collect
from recserver.worker.evaluate import evaluate, fitted


def train(job: TrainingJob, report: Report) -> TrainingResult:
    """Read the job's chef, evaluate its algorithm, fit it, and leave the packed model in ``job.out``.

    Raises:
        TrainingFailed: with the sentence that becomes the model's ``error``.
        SourceUnchanged: if there is nothing new to learn, and the job allows to stop at that.
    """
    report(Progress(stage="reading"))
    stages = Stages()
    collected = collect(job, report, stages)
    interactions, rows_read = collected.interactions, collected.data_report.rows_read
    digest = digest_of(job, interactions)
    if digest == job.trained_digest:
        raise SourceUnchanged(
            "The data and the hyperparameters are those of the last training.", collected.data_report.model_dump()
        )
    stages.begin("evaluating")
    report(Progress(stage="evaluating", rows_read=rows_read))
    method = algorithm(job.algorithm)
    evaluation = evaluate(method, job.hyperparameters, interactions)
    stages.begin("fitting")
    report(Progress(stage="fitting", rows_read=rows_read))
    factors = fitted(method, interactions, job.hyperparameters)
    stages.begin("packing")
    report(Progress(stage="packing", rows_read=rows_read))
    result = finish_training(job, method, interactions, factors, digest)
    data_report = collected.data_report.model_copy(update={"seconds": stages.end()})
    told = {
        "data_report": data_report,
        "source_state": collected.source_state,
        "model_metrics": result.model_metrics | evaluation.metrics,
        "warnings": [*result.warnings, *_doubts(data_report), *evaluation.warnings],
    }
    return result.model_copy(update=told)


def _doubts(report: DataReport) -> list[str]:
    """What speaks against the data that were learned from."""
    replaced = [
        f"In {count} of {report.rows_kept} rows the {reason}, such as {report.examples[reason]}: each counts 1."
        for reason, count in report.replaced.items()
    ]
    return [*replaced, *report.hints]


def digest_of(job: TrainingJob, interactions: Interactions) -> str:
    """SHA-256 over everything that decides what a training learns."""
    digest = hashlib.sha256(json.dumps([job.algorithm, job.hyperparameters], sort_keys=True).encode())
    for ids in (interactions.users, interactions.items):
        digest.update(json.dumps(ids).encode())
    for array in (interactions.indptr, interactions.indices, interactions.ratings):
        digest.update(array.tobytes())
    return digest.hexdigest()


def finish_training(
    job: TrainingJob, method: Algorithm, interactions: Interactions, factors: Factors, digest: str
) -> TrainingResult:
    """Leave the packed model in ``job.out``, and tell what it is."""
    packed = _pack(job, method, interactions, factors)
    return _result(method, interactions, factors, packed, digest)


def _pack(job: TrainingJob, method: Algorithm, interactions: Interactions, factors: Factors) -> PackedFile:
    user_text, user_offsets = pack_ids(interactions.users)
    item_text, item_offsets = pack_ids(interactions.items)
    header: dict[str, JSON] = {
        "model_id": job.model_id,
        "model_version": job.model_version,
        "algorithm": job.algorithm,
        "model_type": method.model_type,
    }
    arrays: dict[str, Any] = {
        "user_text": user_text,
        "user_offsets": user_offsets,
        "item_text": item_text,
        "item_offsets": item_offsets,
        "user_factors": factors.users,
        "item_factors": np.ascontiguousarray(factors.items.T),
        "seen_indptr": interactions.indptr,
        "seen_indices": interactions.indices,
        "item_counts": interactions.item_counts(),
    }
    return pack(job.out, header, arrays)


def _result(
    method: Algorithm, interactions: Interactions, factors: Factors, packed: PackedFile, digest: str
) -> TrainingResult:
    statistics = interactions.statistics()
    rejected = sum(interactions.rejected.values())
    warnings = list(factors.warnings)
    if rejected:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in interactions.rejected.items())
        warnings.append(f"{rejected} of {rejected + interactions.rows_used} rows were left out ({reasons}).")
    counts = ("n_users", "n_items", "n_interactions", "sparsity")
    return TrainingResult(
        model_type=method.model_class,
        size=packed.size,
        sha256=packed.sha256,
        digest=digest,
        hyperparameters=factors.hyperparameters,
        model_metrics={name: statistics[name] for name in counts} | factors.metrics,
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
