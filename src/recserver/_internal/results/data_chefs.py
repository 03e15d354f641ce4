"""Results of the operations on data chefs."""

from __future__ import annotations

from typing import Any

from recserver._internal.results.base import OpenObject, Result


class CreatedDataChef(Result, frozen=True, kw_only=True):
    """A new data chef."""

    message: str
    """One sentence for people."""
    data_chef_id: str
    type: str
    """``csv``, ``sql`` or ``api``."""


class DataChefInfo(OpenObject, frozen=True, kw_only=True):
    """The entry of a data chef, its secrets masked. The settings of its type are keys of ``content``."""

    type: str
    """``csv``, ``sql``, ``api``, or the name of a plug-in."""
    rename_columns: str = ""
    """Renamed columns, such as ``customer->user_id,product->item_id``."""
    warnings: list[str] = []
    """Unknown keys, one sentence each."""
    error: str | None = None
    """Why it cannot be used; absent if it can."""


class DeletedDataChef(Result, frozen=True, kw_only=True):
    """A data chef that was deleted."""

    message: str
    """One sentence for people."""
    data_chef_id: str
    tasks_affected: list[str]
    """Names of the tasks that read it. They stay, and do not run until it exists again."""


class DataPreview(Result, frozen=True, kw_only=True):
    """The first rows of a source, and what should be changed."""

    message: str
    """A summary for people."""
    data_chef_id: str | None = None
    """Absent for a definition that is not stored."""
    raw: list[dict[str, Any]]
    """The first rows as in the source."""
    renamed: list[dict[str, Any]]
    """The same rows as a training would use them."""
    columns: list[str]
    """Names of all columns of the source."""
    rejected: dict[str, int]
    """How many of the rows read a training would leave out, by reason."""
    replaced: dict[str, int]
    """How many rows a training would use with a rating of 1 because theirs is not a number, by reason."""
    examples: dict[str, str]
    """One row or value for each reason."""
    suggestions: list[str]
    """What to change, one sentence each."""
    rows_read: int
    """How many rows were read and validated."""
