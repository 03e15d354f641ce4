"""The policy of a server for its data chefs: allowed sources and limits."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class SourcePolicy(BaseModel):
    """The sources that data chefs may read, and the limits of reading them."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    data_dir: Path
    csv_roots: tuple[Path, ...] = ()
    """Folders besides the data folder from which files may be read."""
    allow_private_sources: bool = True
    """Whether REST chefs may fetch loopback and private addresses. Link-local and metadata ones never are."""
    default_database: str = "sqlite:///interactions.db"
    """Database URL of SQL chefs without one; a relative SQLite path is relative to the data folder."""
    max_source_bytes: int = 256 * 2**20
    """Total bytes read from a REST source, counted after decompression."""
    max_file_bytes: int = 64 * 2**30
    """Size of a file in bytes, counted after decompression."""
    source_timeout: float = 600.0
    """Time limit in seconds for reading a REST source, and for an SQL statement."""
    batch_rows: int = 50_000
    """Approximate number of rows in a batch. Smaller for previews."""
