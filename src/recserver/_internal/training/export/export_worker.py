"""The best items for every user of a model, written in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from recserver._internal.core.clock import SystemClock
from recserver._internal.core.errors import ExportFailed, os_error_text
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.pipeline import recommend_many
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query
from recserver._internal.training.export.export_job import (
    ExportJob,
    ExportProgress,
    ExportResult,
    ExportRow,
    FileTarget,
    WriteRows,
)

USERS_PER_BATCH = 256
"""Users whose recommendations are computed together."""

ROWS_PER_WRITE = 50_000
"""The approximate number of rows in memory at a time."""

REPORT_INTERVAL = 0.5


def export(job: ExportJob, on_progress: Callable[[ExportProgress], None]) -> ExportResult:
    """Export recommendations for every user of a model, in the order of their ids.

    Args:
        on_progress: called about twice a second; for the first time when everything has been checked.

    Raises:
        ExportFailed: if it cannot be written.
        InvalidInput: if the options do not fit the model, or the target cannot be used.
        UnreadableModel: if the model's file is damaged.
    """
    clock = SystemClock()
    began = reported = clock.monotonic()
    try:
        _, model = load_model(job.model)
    except OSError as error:
        raise ExportFailed(f"The model's file cannot be read ({os_error_text(error)}): try again.") from None
    query = PreparedQuery.for_model(model, Query.from_options(job.options))
    users, written, rows = len(model.users), 0, list[ExportRow]()
    batch_size = max(1, min(USERS_PER_BATCH, ROWS_PER_WRITE // query.query.n))
    with _open_target(job) as write:
        on_progress(ExportProgress(users=users))
        for start in range(0, users, batch_size):
            user_ids: Sequence[str] = model.users[start : start + batch_size]
            for user_id, answer in zip(user_ids, recommend_many(model, user_ids, query), strict=True):
                rows += [
                    (job.model_id, model.model_version, user_id, rank, item_id, score)
                    for rank, (item_id, score) in enumerate(answer.items, 1)
                ]
            if len(rows) >= ROWS_PER_WRITE:
                write(rows)
                written, rows = written + len(rows), []
            if (now := clock.monotonic()) - reported >= REPORT_INTERVAL:
                reported = now
                on_progress(ExportProgress(users_done=start + len(user_ids), users=users))
        if rows:
            write(rows)
    seconds = round(clock.monotonic() - began, 3)
    return ExportResult(model_version=model.model_version, users=users, rows=written + len(rows), seconds=seconds)


def _open_target(job: ExportJob) -> AbstractContextManager[WriteRows]:
    if isinstance(job.target, FileTarget):
        from recserver._internal.training.export.file_export import open_file_target

        return open_file_target(job.target)
    from recserver._internal.training.export.table_export import open_table_target

    return open_table_target(job.target, job.model_id)
