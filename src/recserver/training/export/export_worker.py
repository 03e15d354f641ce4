"""The best items for every user that a model knows, written as they are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pydantic import TypeAdapter

from recserver.core.clock import SystemClock
from recserver.core.errors import ExportFailed, reason_of
from recserver.recommend.model.loading import open_packed
from recserver.recommend.pipeline import recommended_many
from recserver.recommend.prepared_query import Prepared
from recserver.recommend.query import Query
from recserver.recommend.request_options import ExportWishes
from recserver.training.export.export_job import ExportJob, ExportProgress, ExportResult, FileTarget
from recserver.training.export.rows import Exported, Rows, Write

TOGETHER = 256
"""Users that are answered together."""

WRITTEN_TOGETHER = 50_000
"""Rows, about: as many as are in memory at a time."""

SECONDS_BETWEEN_REPORTS = 0.5

_WISHES: TypeAdapter[Any] = TypeAdapter(ExportWishes)


def export(job: ExportJob, report: Callable[[ExportProgress], None]) -> ExportResult:
    """Export what a model has for every user that it knows, in the order of their ids.

    Args:
        report: told how far it is, about twice a second; first when nothing is left to refuse.

    Raises:
        ExportFailed: if it cannot be written.
        InvalidInput: if the wishes ask for what the model does not know, or the target cannot be used.
        UnreadableModel: if the model's file is damaged.
    """
    clock = SystemClock()
    began = told = clock.monotonic()
    try:
        _, model = open_packed(job.model)
    except OSError as error:
        raise ExportFailed(f"The model's file cannot be read ({reason_of(error)}): try again.") from None
    asked = Prepared.of(model, Query.of(_WISHES.validate_python(job.wishes)))
    users, written, rows = len(model.users), 0, Rows()
    together = max(1, min(TOGETHER, WRITTEN_TOGETHER // asked.query.n))
    with _opened(job, Exported(job.model_id, model.model_version)) as write:
        report(ExportProgress(users=users))
        for start in range(0, users, together):
            user_ids: Sequence[str] = model.users[start : start + together]
            for user_id, answer in zip(user_ids, recommended_many(model, user_ids, asked), strict=True):
                rows.add(user_id, answer)
            if len(rows) >= WRITTEN_TOGETHER:
                write(rows)
                written, rows = written + len(rows), Rows()
            if (now := clock.monotonic()) - told >= SECONDS_BETWEEN_REPORTS:
                told = now
                report(ExportProgress(users_done=start + len(user_ids), users=users))
        if len(rows):
            write(rows)
    seconds = round(clock.monotonic() - began, 3)
    return ExportResult(model_version=model.model_version, users=users, rows=written + len(rows), seconds=seconds)


def _opened(job: ExportJob, of: Exported) -> AbstractContextManager[Write]:
    if isinstance(job.target, FileTarget):
        from recserver.training.export.file_export import file_of

        return file_of(job.target, of)
    from recserver.training.export.table_export import table_of

    return table_of(job.target, of)
