"""Results of the operation that exports recommendations."""

from __future__ import annotations

from typing import Literal

from recserver._internal.results.base import Result


class ExportStatus(Result, frozen=True, kw_only=True):
    """One line of the response of an export: its progress, or as the last line its result."""

    status: Literal["running", "completed", "failed"]
    users_done: int | None = None
    """While running: users whose recommendations were written."""
    users: int | None = None
    """Users of the model. Users for whom no item remains have no rows."""
    model_id: str | None = None
    file: str | None = None
    """The file, relative to the data folder."""
    table: str | None = None
    model_version: int | None = None
    rows: int | None = None
    """Number of rows written."""
    seconds: float | None = None
    """Without the wait for a worker."""
    error: str | None = None
    """Why the export failed."""
    code: str | None = None
    """The code of the error."""
