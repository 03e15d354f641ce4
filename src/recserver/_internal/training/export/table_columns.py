"""What a table must have to take the rows of an export."""

from __future__ import annotations

from collections.abc import Collection

from recserver._internal.core.errors import ExportFailed, quoted
from recserver._internal.training.export.export_job import COLUMNS

PRIMARY_KEY = ("model_id", "user_id", "rank")
"""What no two rows of a table share."""


def require_columns(table: str, column_names: Collection[str], required: Collection[str] = ()) -> None:
    """
    Args:
        required: columns that need a value in every row.

    Raises:
        ExportFailed: if a table lacks columns that an export fills, or has others that it would have to.
    """
    if missing := [name for name in COLUMNS if name not in column_names]:
        raise ExportFailed(
            f"The table {quoted(table)} exists but has no column {', '.join(missing)}: name another table, "
            f"which is created if it is missing, or one with the columns {', '.join(COLUMNS)}."
        )
    if others := [name for name in required if name not in COLUMNS]:
        raise ExportFailed(
            f"The table {quoted(table)} needs values for {', '.join(map(quoted, others))}, which exports do not "
            "have: give these columns a default, or name another table."
        )


def reject_view(name: str) -> None:
    """
    Raises:
        ExportFailed: always.
    """
    raise ExportFailed(f"{quoted(name)} is a view: name the table that it shows, or another.")
