"""Results of the operations on models and their versions."""

from __future__ import annotations

from typing import Any

from recserver._internal.results.base import OpenObject, Result, ResultObject
from recserver._internal.results.runs import TrainingProgress


class AlgorithmInfo(ResultObject, frozen=True, kw_only=True):
    """An algorithm."""

    algorithm: str
    """Its name."""
    model_type: str
    """Its family."""
    default_params: dict[str, Any]
    """The hyperparameters that the config of a new model shows."""
    description: str
    use_case: str
    """What it is suited for."""


class AlgorithmList(Result, frozen=True, kw_only=True):
    """All algorithms, those of plug-ins included."""

    algorithms: dict[str, AlgorithmInfo]
    """By name."""


class CreatedModel(Result, frozen=True, kw_only=True):
    """A new model, which a task trains."""

    message: str
    """One sentence for people."""
    model_id: str
    status: str
    """``initializing``."""
    algorithm: str
    model_type: str
    """The family of the algorithm."""
    hyperparameters: dict[str, Any]
    """The defaults, merged with the given ones."""


class ModelInfo(OpenObject, frozen=True, kw_only=True):
    """A model: its config, with what its other files and its active training add.

    Keys that the config does not have yet are absent.
    """

    model_id: str
    model_name: str
    message: str
    algorithm: str
    model_type: str
    """The family of the algorithm."""
    hyperparameters: dict[str, Any]
    created_at: str
    """UTC, such as ``2026-01-02T03:04:05.678Z``, like all times."""
    status: str
    """``initializing``, ``training``, ``validating``, ``completed``, ``failed``, ``stopped`` or ``modified``."""
    model_file_exists: bool
    loaded_in_memory: bool
    needs_training: bool
    """Whether no version can serve."""
    model_path: str | None = None
    """The model file, relative to the data folder."""
    model_version: int | None = None
    """The version that was trained last."""
    model_metrics: dict[str, Any] | None = None
    """Its metrics, ``training_time`` in seconds among them."""
    final_stats: dict[str, Any] | None = None
    """What it was trained on."""
    training_completed_at: str | None = None
    last_saved_at: str | None = None
    error: str | None = None
    """Why the last training failed, or why no version can serve."""
    failed_at: str | None = None
    stopped_at: str | None = None
    modified_at: str | None = None
    quality_gate: dict[str, Any] | None = None
    """What a new version must reach to replace the serving one."""


class ModelDetails(ModelInfo, frozen=True, kw_only=True):
    """A model, its model file and the progress of its training."""

    in_training_state: bool
    """Whether it is being trained."""
    file_size_mb: float
    """MiB of the model file."""
    progress: TrainingProgress | None
    """None if it is not being trained."""


class DeletedModel(Result, frozen=True, kw_only=True):
    """A model that was deleted, or with ``dry_run`` would be."""

    message: str
    """One sentence for people."""
    model_id: str
    status: str
    """``deleted`` or ``dry_run``."""
    files_deleted: list[str]
    """Relative to the data folder."""
    tasks_affected: list[str]
    """Names of the tasks that train the model. They stay, and do not run until it exists again."""


class VersionInfo(ResultObject, frozen=True, kw_only=True):
    """A stored version of a model."""

    model_version: int
    """Its number: 1 for the first."""
    created_at: str
    metrics: dict[str, Any]
    promoted: bool
    """Whether it has ever served."""
    serving: bool
    pinned: bool
    """Whether it is stored permanently."""
    bytes: int
    """Of its model file."""
    damaged: str | None = None
    """Why it cannot serve; absent if it can."""


class VersionList(Result, frozen=True, kw_only=True):
    """The stored versions of a model."""

    data: list[VersionInfo]
    """Newest first."""
    bytes: int
    """Disk use of all files of the model."""


class VersionChange(Result, frozen=True, kw_only=True):
    """A version that was chosen to serve, or was pinned or unpinned."""

    message: str
    """One sentence for people."""
    model_id: str
    model_version: int


class QualityGateChange(Result, frozen=True, kw_only=True):
    """The quality gate of a model after a change."""

    message: str
    """One sentence for people."""
    model_id: str
    max_drop: float
    """Fraction by which NDCG@10 may be lower than that of the serving version."""
    min_share: float
    """Minimum fraction of the serving version's interactions, users and items."""
    beat_popularity: bool
    """Whether NDCG@10 must be higher than that of the popularity baseline."""
