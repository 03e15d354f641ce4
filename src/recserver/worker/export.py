"""The best items for every user that a model knows, written as they are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from recserver.clock import SystemClock
from recserver.errors import ExportFailed, reason_of
from recserver.recommend.answering import Answer, recommended_many
from recserver.recommend.opening import open_packed
from recserver.recommend.query import Query
from recserver.recommend.wanted import Prepared
from recserver.specs.exports import ExportJob, ExportProgress, ExportResult, FileTarget
from recserver.specs.wishes import ExportWishes

TOGETHER = 256
"""Users that are answered together."""

WRITTEN_TOGETHER = 50_000
"""Rows, about: as many as are in memory at a time."""

SECONDS_BETWEEN_REPORTS = 0.5

_WISHES: TypeAdapter[Any] = TypeAdapter(ExportWishes)


@dataclass(slots=True)
class Rows:
    """Some rows, column by column; what they share is in :class:`Exported`."""

    user_ids: list[str] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    item_ids: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def add(self, user_id: str, answer: Answer) -> None:
        """One user's items, best first, with ranks from 1 on."""
        count = len(answer.items)
        self.user_ids += [user_id] * count
        self.ranks += range(1, count + 1)
        self.item_ids += [item for item, _ in answer.items]
        self.scores += [score for _, score in answer.items]

    def __len__(self) -> int:
        return len(self.ranks)


@dataclass(frozen=True, slots=True)
class Exported:
    """Which version of which model is exported."""

    model_id: str
    model_version: int


Write = Callable[[Rows], None]


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
        from recserver.worker.export_files import file_of

        return file_of(job.target, of)
    from recserver.worker.export_tables import table_of

    return table_of(job.target, of)
