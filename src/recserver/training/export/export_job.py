"""What an export of recommendations is told and what it tells back. All of it is small and travels as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from recserver.chefs.source_policy import SourcePolicy
from recserver.core.validation.values import check_new_id
from recserver.recommend.filters import Condition
from recserver.recommend.request_options import Boost, MaxPer
from recserver.training.jobs import Message

EXPORT_FOLDER = "exports"
"""Folder of the data folder that holds exported files."""

EXTENSIONS = (".parquet", ".csv", ".csv.gz", ".jsonl")
"""What the name of an exported file ends in, and with it what it holds."""

COLUMNS = ("model_id", "model_version", "user_id", "rank", "item_id", "score")

_TABLE = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_]{0,62})\.)?([A-Za-z_][A-Za-z0-9_]{0,62})")


def extension_of(name: str) -> str | None:
    """The one of :data:`ENDINGS` that a file's name has, in any case; None if it has none."""
    return next((one for one in EXTENSIONS if name.lower().endswith(one) and len(name) > len(one)), None)


def check_file(value: object) -> str:
    """``value`` if an export may write a file of that name into its folder.

    Raises:
        ValueError: with a sentence that says what such a name may hold.
    """
    try:
        name = check_new_id(value)
    except ValueError:
        name = ""
    if not extension_of(name):
        raise ValueError(
            f"must be the name of a file, without a folder: up to 100 of A-Z a-z 0-9 _ . - and ending in one of "
            f"{' '.join(EXTENSIONS)}"
        )
    return name


def check_table(value: object) -> str:
    """``value`` if it names a table, perhaps one of a schema.

    Raises:
        ValueError: with a sentence that says what such a name may hold.
    """
    if not isinstance(value, str) or not _TABLE.fullmatch(value):
        raise ValueError(
            "must be the name of a table such as recommendations or shop.recommendations: letters, digits and _, "
            "up to 63 each, not beginning with a digit"
        )
    return value


def split_table_name(table: str) -> tuple[str | None, str]:
    """The schema, if there is one, and the name of a checked table."""
    schema, _, name = table.rpartition(".")
    return schema or None, name


def to_json(option: Any) -> Any:
    """A wish as a request states it in JSON; reading that gives the same wish."""
    if isinstance(option, Condition):
        return {"attribute": option.attribute, "operator": option.operator, "values": list(option.values)}
    if isinstance(option, Boost):
        return {"filter": to_json(option.condition), "factor": option.factor}
    if isinstance(option, MaxPer):
        return {"attribute": option.attribute, "count": option.count}
    if isinstance(option, Mapping):
        return {name: to_json(one) for name, one in option.items()}
    return [to_json(one) for one in option] if isinstance(option, list) else option


FileName = Annotated[str, BeforeValidator(check_file)]
TableName = Annotated[str, BeforeValidator(check_table)]


class FileTarget(Message):
    """A file that is to hold an export."""

    out: Path
    """Where it is written. Whoever gave the job gives it its name, or removes it."""
    extension: str
    """One of :data:`ENDINGS`: what it is to hold."""


class TableTarget(Message):
    """A table that is to hold an export, beside what it holds of other models."""

    table: TableName
    database: str | None
    """Its database's URL; ``${NAME}`` is replaced in the worker only. None means the default database."""
    policy: SourcePolicy
    base_folder: Path | None = None
    """From where the operator who named the database means paths; then its file may lie anywhere."""


class ExportJob(Message):
    """The best items of a model for every user that it knows, and where they go."""

    model_id: str
    model: Path
    """The packed model."""
    options: dict[str, Any]
    """As :func:`stated`."""
    target: FileTarget | TableTarget


class ExportProgress(Message):
    """How far an export is. The first one says that nothing is left to refuse."""

    users_done: int = 0
    users: int


class ExportResult(Message):
    """An export that ended well. A table has its rows; a file waits in the target's ``out``."""

    model_version: int
    users: int
    """Whom the model knows. Those for whom nothing is left have no rows."""
    rows: int
    seconds: float
    """Of the work, the wait for a worker not included."""
