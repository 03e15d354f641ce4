"""What a training is told and what it tells back. All of it is small and travels as JSON.

The interactions themselves never cross between processes: a worker reads its source and leaves the packed
model in a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class SourcePolicy(BaseModel):
    """What data chefs may reach, and how much they may take."""

    model_config = ConfigDict(frozen=True)

    data_dir: Path
    csv_roots: tuple[Path, ...] = ()
    """Folders besides the data folder from which files may be read."""
    allow_private_sources: bool = True
    """Whether loopback and private addresses may be fetched. Link-local and metadata ones never are."""
    default_database: str = "sqlite:///interactions.db"
    """Database URL of SQL chefs that name none; a relative SQLite path starts at the data folder."""
    max_source_bytes: int = 256 * 2**20
    """Bytes a REST source may send in all, counted after decompression."""
    source_timeout: float = 600.0
    """Seconds that reading a REST source, or one SQL statement, may take."""


class TrainingJob(BaseModel):
    """One training: which chef feeds which algorithm, and where the packed model goes."""

    model_config = ConfigDict(frozen=True)

    model_id: str
    model_version: int
    algorithm: str
    hyperparameters: dict[str, Any]
    data_chef_id: str
    data_chef: dict[str, Any]
    """The chef's entry as stored; ``${NAME}`` is replaced in the worker only."""
    policy: SourcePolicy
    out: Path
    """File that the worker writes the packed model to."""
    trained_digest: str | None = None
    """Digest of what the last training learned from; an equal one ends this training early."""


class Progress(BaseModel):
    """How far a training is."""

    model_config = ConfigDict(frozen=True)

    stage: str
    """``waiting`` for a place, ``starting``, ``reading``, ``fitting`` or ``packing``."""
    rows_read: int = 0


class TrainingResult(BaseModel):
    """A training that ended well; the packed model waits in the job's ``out``."""

    model_config = ConfigDict(frozen=True)

    model_type: str
    """``NMFRecommendationModel`` and the like, as the metadata names it."""
    size: int
    """Bytes of the packed file."""
    sha256: str
    digest: str
    """Digest of what was learned from: the interactions, the algorithm and its hyperparameters."""
    hyperparameters: dict[str, Any]
    """All of them, as used."""
    model_metrics: dict[str, Any]
    training_stats: dict[str, int | float]
    final_stats: dict[str, Any]
    warnings: list[str] = Field(default_factory=list)
