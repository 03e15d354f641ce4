"""The job of an export of recommendations, and its result. Both are small and are sent as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.validation.values import check_new_id
from recserver._internal.recommend.request_options import ExportOptions
from recserver._internal.training.jobs import Message

EXPORT_FOLDER = "exports"
"""Folder of the data folder that holds exported files."""

EXTENSIONS = (".parquet", ".csv", ".csv.gz", ".jsonl")
"""The extensions of exported files; each stands for a format."""

COLUMNS = ("model_id", "model_version", "user_id", "rank", "item_id", "score")

ExportRow = tuple[str, int, str, int, str, float]
"""The values of :data:`COLUMNS`. Ranks begin at 1, the best item."""

WriteRows = Callable[[Sequence[ExportRow]], object]

_TABLE = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_]{0,62})\.)?([A-Za-z_][A-Za-z0-9_]{0,62})")


def extension_of(name: str) -> str | None:
    """The one of :data:`EXTENSIONS` that a file's name has, in upper or lower case; None if it has none."""
    return next(
        (extension for extension in EXTENSIONS if name.lower().endswith(extension) and len(name) > len(extension)),
        None,
    )


def check_file(value: object) -> str:
    """Check that an export may write a file of that name into its folder.

    Raises:
        ValueError: with the form of a valid name.
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
    """Check the name of a table, with or without a schema.

    Raises:
        ValueError: with the form of a valid name.
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


FileName = Annotated[str, BeforeValidator(check_file)]
TableName = Annotated[str, BeforeValidator(check_table)]


class FileTarget(Message):
    """The file to export to."""

    out: Path
    """A temporary path, which the sender of the job renames or removes."""
    extension: str
    """One of :data:`EXTENSIONS`: the format."""


class TableTarget(Message):
    """The table to export to. Its rows of other models stay."""

    table: TableName
    database: str | None
    """Its database's URL; ``${NAME}`` is replaced in the worker only. None means the default database."""
    policy: SourcePolicy
    base_folder: Path | None = None
    """Where relative paths of an operator's database begin; its file may then be anywhere."""


class ExportJob(Message):
    """An export of the best items for every user of a model."""

    model_id: str
    model: Path
    """The packed model."""
    options: ExportOptions
    target: FileTarget | TableTarget


class ExportProgress(Message):
    """The progress of an export. The first one means that everything has been checked."""

    users_done: int = 0
    users: int


class ExportResult(Message):
    """A successful export. A table has its rows; a file is in the target's ``out``."""

    model_version: int
    users: int
    """Users of the model. Users for whom no item remains have no rows."""
    rows: int
    seconds: float
    """Without the wait for a worker."""
