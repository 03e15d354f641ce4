"""What a training is told and what it tells back. All of it is small and travels as JSON.

The interactions themselves never cross between processes: a worker reads its source and leaves the packed
model in a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from recserver.chefs.source_policy import SourcePolicy


class Message(BaseModel):
    """What crosses between processes: it never changes, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingLimits(Message):
    """What one training may take; None means as much as there is."""

    seconds: float | None = None
    """From its place in a worker to its packed model."""
    memory: int | None = None
    """MiB, beyond what an idle worker takes."""


class TrainingJob(Message):
    """One training: which chef feeds which algorithm, and where the packed model goes."""

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
    """The entry of the chef that tells the attributes of items, as stored; None if there is none."""
    policy: SourcePolicy
    out: Path
    """File that the worker writes the packed model to."""
    previous_model: Path | None = None
    """The model file of the version that serves, to start from where that helps."""
    previous_digest: str | None = None
    """Digest of what the last training learned from; an equal one ends this training early."""
    source_state: dict[str, Any] = Field(default_factory=dict)
    """What the last training kept of its source, to ask whether anything changed."""
    threads: int = 1
    """That the fit may use; what it finds does not depend on it."""
    time_limit: float | None = None
    memory_limit: int | None = None
    """As in :class:`Limits`."""


class PreviewJob(Message):
    """A look at the first rows of a source."""

    data_chef: dict[str, Any]
    """The chef's entry as stored; ``${NAME}`` is replaced in the worker only."""
    policy: SourcePolicy
    rows: int = 20
    """How many are shown. More are read, to judge them."""


class Preview(Message):
    """What a look at a source found."""

    raw: list[dict[str, Any]]
    """The first rows as the source has them."""
    renamed: list[dict[str, Any]]
    """The same rows as a training would take them."""
    columns: list[str]
    """Names of all columns of the source."""
    rejected: dict[str, int]
    """Rows that a training would leave out, by reason, among those read."""
    replaced: dict[str, int] = Field(default_factory=dict)
    """Rows that a training would take with a rating of 1 because what they have is none, by reason."""
    examples: dict[str, str]
    """One such row, or its value, for each reason of both."""
    suggestions: list[str]
    """What to change, a sentence each."""
    rows_read: int
    """How many rows were read and judged."""


class CandidateJob(Message):
    """One algorithm, to be fitted to a hold-out and measured on it."""

    holdout: Path
    """The file that holds it."""
    algorithm: str
    hyperparameters: dict[str, Any]
    threads: int = 1


class CandidateResult(Message):
    """What came of it."""

    metrics: dict[str, float]
    hyperparameters: dict[str, Any]
    """All of them, as used."""
    seconds: float
    """Of choosing hyperparameters and fitting, libraries being loaded already."""
    peak_mb: float | None
    """Megabytes, 2**20 bytes each, of the process at its largest; None where the system does not tell."""
    warnings: list[str] = Field(default_factory=list)


class FeaturesReport(Message):
    """What one run read of the attributes of items."""

    rows_read: int
    rows_kept: int
    """Rows with a usable ``item_id``, those of items without interactions included."""
    rejected: dict[str, int]
    """Rows left out, by reason."""
    examples: dict[str, str]
    """One row for each reason."""
    n_items: int
    """Items of the interactions of which something was read."""
    attributes: dict[str, str]
    """Name of each attribute that is stored → ``text``, ``number`` or ``time``."""


class DataReport(Message):
    """What one run read, and what became of it."""

    rows_read: int
    rows_kept: int
    """Rows that became part of the interactions, repeated pairs counted each."""
    rejected: dict[str, int]
    """Rows left out, by reason."""
    replaced: dict[str, int] = Field(default_factory=dict)
    """Rows kept with a rating of 1 because what they have is none, by reason."""
    examples: dict[str, str]
    """One value or row for each reason."""
    hints: list[str] = Field(default_factory=list)
    """What whoever wrote the data chef should know, a sentence each."""
    n_pairs: int
    """Distinct pairs of user and item."""
    n_users: int
    n_items: int
    density: float
    """Share of all pairs that occurs, 0 to 1."""
    n_bytes: int
    """Bytes read from the source, compressed ones counted as such; 0 if nobody knows."""
    seconds: dict[str, float]
    """Time by stage: ``reading``, ``building``, ``features``, ``evaluating``, ``fitting``, ``packing``; those
    reached."""
    item_features: FeaturesReport | None = None
    """Of the attributes of items; only where the task names a data chef of them."""

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if self.item_features is None:
            del content["item_features"]
        return content


class Progress(Message):
    """How far a training is."""

    stage: str
    """``waiting`` for a place, ``starting``, ``reading``, ``evaluating``, ``fitting`` or ``packing``."""
    rows_read: int = 0
    iteration: int | None = None
    iterations: int | None = None
    loss: float | None = None
    """Of the fit, where the algorithm tells."""
    queue_position: int | None = None
    """While it waits: 1 is next."""


class TrainingResult(Message):
    """A training that ended well; the packed model waits in the job's ``out``."""

    model_type: str
    """``NMFRecommendationModel`` and the like, as the metadata names it."""
    size: int
    """Bytes of the packed file."""
    sha256: str
    digest: str
    """Digest of what was learned from: the interactions, the attributes, the algorithm and its hyperparameters."""
    hyperparameters: dict[str, Any]
    """All of them, as used."""
    model_metrics: dict[str, Any]
    training_stats: dict[str, int | float]
    final_stats: dict[str, Any]
    data_report: DataReport | None = None
    source_state: dict[str, Any] = Field(default_factory=dict)
    """What to keep of the source, to ask the next time whether anything changed."""
    warnings: list[str] = Field(default_factory=list)
