"""The jobs of worker processes and their results. All of them are small and are sent as JSON.

Interactions are never sent between processes: a worker reads the source itself and writes the packed model to a
file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from recserver._internal.chefs.source_policy import SourcePolicy


class Message(BaseModel):
    """What is sent between processes: immutable, and a misspelt field is an error."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class TrainingLimits(Message):
    """The limits of one training; None means no limit."""

    seconds: float | None = None
    """From its start in a worker to its packed model."""
    memory: int | None = None
    """MiB, in addition to what an idle worker uses."""


class TrainingJob(Message):
    """One training: the data chefs, the algorithm, and where to write the packed model."""

    run_id: str = ""
    model_id: str
    model_version: int
    algorithm: str
    hyperparameters: dict[str, Any]
    data_chef_id: str
    data_chef: dict[str, Any]
    """The chef's entry as stored; ``${NAME}`` is replaced in the worker only."""
    item_features_data_chef_id: str | None = None
    item_features: dict[str, Any] | None = None
    """The entry of the item features' chef, as stored; None if there is none."""
    policy: SourcePolicy
    out: Path
    """File that the worker writes the packed model to."""
    previous_model: Path | None = None
    """The model file of the serving version, for a warm start."""
    previous_digest: str | None = None
    """Digest of the data and hyperparameters of the last training; if equal, this training ends early."""
    source_state: dict[str, Any] = Field(default_factory=dict)
    """What the last training stored of its source, to ask whether anything changed."""
    threads: int = 1
    """That the fit may use; its result does not depend on it."""
    time_limit: float | None = None
    memory_limit: int | None = None
    """As in :class:`TrainingLimits`."""


class PreviewJob(Message):
    """A preview of the first rows of a source."""

    data_chef: dict[str, Any]
    """The chef's entry as stored; ``${NAME}`` is replaced in the worker only."""
    policy: SourcePolicy
    rows: int = 20
    """How many rows to show. More are read and validated."""


class Preview(Message):
    """The first rows of a source, and what should be changed."""

    raw: list[dict[str, Any]]
    """The first rows as in the source."""
    renamed: list[dict[str, Any]]
    """The same rows as a training would use them."""
    columns: list[str]
    """Names of all columns of the source."""
    rejected: dict[str, int]
    """How many of the rows read a training would leave out, by reason."""
    replaced: dict[str, int] = Field(default_factory=dict)
    """How many rows a training would use with a rating of 1 because theirs is not a number, by reason."""
    examples: dict[str, str]
    """One row or value for each reason."""
    suggestions: list[str]
    """What to change, one sentence each."""
    rows_read: int
    """How many rows were read and validated."""


class CandidateJob(Message):
    """One algorithm of a comparison, to be fitted and evaluated on a hold-out."""

    holdout: Path
    """The file of the hold-out."""
    algorithm: str
    hyperparameters: dict[str, Any]
    threads: int = 1


class CandidateResult(Message):
    """The result of evaluating one algorithm."""

    metrics: dict[str, float]
    hyperparameters: dict[str, Any]
    """All of them, as used."""
    seconds: float
    """Time of tuning and fitting, without loading libraries."""
    peak_mb: float | None
    """Peak memory of the process in MiB; None if the system does not report it."""
    warnings: list[str] = Field(default_factory=list)


class FeaturesReport(Message):
    """What one run read of the item features."""

    rows_read: int
    rows_kept: int
    """Rows with a usable ``item_id``, those of items without interactions included."""
    rejected: dict[str, int]
    """Rows left out, by reason."""
    examples: dict[str, str]
    """One row for each reason."""
    n_items: int
    """Items of the interactions that have a row."""
    attributes: dict[str, str]
    """Name of each stored attribute to its kind: ``text``, ``number`` or ``time``."""


class DataReport(Message):
    """What one run read. ``rows_read`` is ``rows_kept`` and all of ``rejected`` together."""

    rows_read: int
    rows_kept: int
    """Rows that became part of the interactions, each row of a repeated pair counted."""
    rejected: dict[str, int]
    """Rows left out, by reason."""
    replaced: dict[str, int] = Field(default_factory=dict)
    """Rows used with a rating of 1 because theirs is not a number, by reason."""
    examples: dict[str, str]
    """One value or row for each reason."""
    hints: list[str] = Field(default_factory=list)
    """Hints for the author of the data chef, one sentence each."""
    n_pairs: int
    """Distinct pairs of user and item."""
    n_users: int
    n_items: int
    density: float
    """Share of all possible pairs that occurs, 0 to 1."""
    n_bytes: int
    """Bytes read from the source, before decompression; 0 if unknown."""
    seconds: dict[str, float]
    """Seconds by stage: ``reading``, ``building``, ``features``, ``evaluating``, ``fitting``, ``packing``, as far
    as reached."""
    item_features: FeaturesReport | None = None
    """Of the item features; only where the task names a data chef of them."""

    @model_serializer(mode="wrap")
    def _leave_out_missing_features(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if self.item_features is None:
            content.pop("item_features", None)
        return content


class Progress(Message):
    """The progress of a training."""

    stage: str
    """``waiting`` for a slot, ``starting``, ``reading``, ``evaluating``, ``fitting`` or ``packing``."""
    rows_read: int = 0
    iteration: int | None = None
    iterations: int | None = None
    loss: float | None = None
    """Of the fit, where the algorithm reports it."""
    queue_position: int | None = None
    """While waiting: 1 is next."""


class TrainingResult(Message):
    """A successful training; the packed model is in the job's ``out``."""

    model_type: str
    """The model class in the metadata, such as ``NMFRecommendationModel``."""
    size: int
    """Bytes of the packed file."""
    sha256: str
    digest: str
    """Digest of the interactions, the attributes, the algorithm and its hyperparameters."""
    hyperparameters: dict[str, Any]
    """All of them, as used."""
    model_metrics: dict[str, Any]
    training_stats: dict[str, int | float]
    final_stats: dict[str, Any]
    data_report: DataReport | None = None
    source_state: dict[str, Any] = Field(default_factory=dict)
    """What to store of the source, so that the next training can ask whether anything changed."""
    warnings: list[str] = Field(default_factory=list)
