"""What data chefs may reach, and how much they may take."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


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
    max_file_bytes: int = 64 * 2**30
    """Bytes that a file may hold, counted after decompression."""
    source_timeout: float = 600.0
    """Seconds that reading a REST source, or one SQL statement, may take."""
    batch_rows: int = 50_000
    """Rows that a chef hands over at a time, about. A preview asks for few."""
