"""The rows of an export."""

from __future__ import annotations

from collections.abc import Callable, Sequence

ExportRow = tuple[str, int, str, int, str, float]
"""``COLUMNS`` of :mod:`recserver.training.export.export_job`: ranks begin at 1, the best item."""

WriteRows = Callable[[Sequence[ExportRow]], object]
