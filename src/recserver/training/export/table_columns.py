"""What a table must have to take the rows of an export, and the rows as they stand in it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from recserver.core.errors import ExportFailed, quoted
from recserver.training.export.export_job import COLUMNS
from recserver.training.export.rows import ExportedVersion, Rows

if TYPE_CHECKING:
    pass


def require_columns(table: str, column_names: Collection[str], required: Collection[str] = ()) -> None:
    """
    Args:
        must: columns that a row has to bring a value for.

    Raises:
        ExportFailed: if a table lacks columns that an export fills, or has others that it would have to.
    """
    if missing := [name for name in COLUMNS if name not in column_names]:
        raise ExportFailed(
            f"The table {quoted(table)} is there and has no column {', '.join(missing)}: name another table, "
            f"which is made if it is missing, or one with the columns {', '.join(COLUMNS)}."
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


def row_tuples(rows: Rows, version: ExportedVersion) -> list[tuple[Any, ...]]:
    """Rows as they stand in a table."""
    return [
        (version.model_id, version.model_version, *own)
        for own in zip(rows.user_ids, rows.ranks, rows.item_ids, rows.scores, strict=True)
    ]


PRIMARY_KEY = ("model_id", "user_id", "rank")
"""What no two rows of a table share."""
