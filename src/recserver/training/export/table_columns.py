"""What a table must have to take the rows of an export, and the rows as they stand in it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from recserver.core.errors import ExportFailed, shown
from recserver.training.export.export_job import COLUMNS
from recserver.training.export.rows import Exported, Rows

if TYPE_CHECKING:
    pass


def require_columns(table: str, found: Collection[str], must: Collection[str] = ()) -> None:
    """
    Args:
        must: columns that a row has to bring a value for.

    Raises:
        ExportFailed: if a table lacks columns that an export fills, or has others that it would have to.
    """
    if missing := [name for name in COLUMNS if name not in found]:
        raise ExportFailed(
            f"The table {shown(table)} is there and has no column {', '.join(missing)}: name another table, "
            f"which is made if it is missing, or one with the columns {', '.join(COLUMNS)}."
        )
    if others := [name for name in must if name not in COLUMNS]:
        raise ExportFailed(
            f"The table {shown(table)} needs values for {', '.join(map(shown, others))}, which exports do not "
            "have: give these columns a default, or name another table."
        )


def refuse_view(name: str) -> None:
    """
    Raises:
        ExportFailed: always.
    """
    raise ExportFailed(f"{shown(name)} is a view: name the table that it shows, or another.")


def values_of(rows: Rows, of: Exported) -> list[tuple[Any, ...]]:
    """Rows as they stand in a table."""
    return [
        (of.model_id, of.model_version, *own)
        for own in zip(rows.user_ids, rows.ranks, rows.item_ids, rows.scores, strict=True)
    ]


KEY = ("model_id", "user_id", "rank")
"""What no two rows of a table share."""
