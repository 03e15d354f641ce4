"""The verb that writes recommendations for everybody into a file or a table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Unpack

from recserver.core.errors import Draining, InvalidInput, ReadOnly, RecServerError
from recserver.core.validation.values import KnownId, Text
from recserver.recommend.prepared_query import PreparedQuery
from recserver.recommend.query import Query
from recserver.recommend.request_options import ExportOptions
from recserver.server.service.operation import READ_ONLY_MESSAGE, Operations, Result, operation
from recserver.storage.atomic_files import disk, temporary_path
from recserver.training.export.export_job import (
    EXPORT_FOLDER,
    ExportJob,
    ExportResult,
    FileName,
    FileTarget,
    TableName,
    TableTarget,
    extension_of,
)
from recserver.training.export.table_target import TableLocation, locate_table
from recserver.training.exporter import Export


class ExportOperations(Operations):
    """Write what a model recommends."""

    @operation
    async def export_recommendations(
        self,
        *,
        model_id: KnownId,
        file: FileName | None = None,
        table: TableName | None = None,
        database: Text | None = None,
        **wishes: Unpack[ExportOptions],
    ) -> AsyncGenerator[Result, None]:
        """The best items for every user that a model knows, in a file or a table; tells how far that is.

        What is wrong is raised before anything is told. Closing what this answers with cancels the export.
        """
        _check_target(file, table, database)
        if self.draining:
            raise Draining("The server is closing.")
        if self.read_only and file is not None:
            raise ReadOnly(READ_ONLY_MESSAGE)
        model = await self.services.model_cache.get_or_load(model_id)
        await self.services.batcher.run_in_thread(PreparedQuery.for_model, model, Query.from_options(wishes))
        path = await asyncio.to_thread(self.services.models.load_path, model_id)
        target: FileTarget | TableTarget
        if table is None:
            target, place, told = await asyncio.to_thread(self._file_target, str(file))
            named: Path | None = self.services.policy.data_dir / EXPORT_FOLDER / str(file)
        else:
            target = TableTarget(table=table, database=database, policy=self.services.policy)
            found = await asyncio.to_thread(self._table_target, target)
            place, named, told = found.key, found.file, {"table": table}
        job = ExportJob(model_id=model_id, model=path, options=wishes, target=target)
        lines = self._lines(job, place, named, told)
        await anext(lines)  # what is refused is refused now
        return lines

    def _file_target(self, name: str) -> tuple[FileTarget, str, Result]:
        """Where a file is written, what no other export may write, and how it is told of."""
        folder = self.services.policy.data_dir / EXPORT_FOLDER
        disk.make_folder(folder)
        target = FileTarget(out=temporary_path(folder / name), extension=str(extension_of(name)))
        return target, name.casefold(), {"file": f"{EXPORT_FOLDER}/{name}"}

    def _table_target(self, target: TableTarget) -> TableLocation:
        """Where a table is, which no other export may write.

        Raises:
            InvalidInput: if the database cannot be used.
            ReadOnly: if it is a file of the data folder of a read-only server.
        """
        place = locate_table(target)
        inside = place.file is not None and place.file.is_relative_to(self.services.policy.data_dir)
        if self.read_only and inside:
            raise ReadOnly(READ_ONLY_MESSAGE)
        return place

    async def _lines(
        self, job: ExportJob, place: str, file: Path | None, told: Result
    ) -> AsyncGenerator[Result, None]:
        """How far an export is, and what came of it; before that, nothing once it has begun."""
        async with self.services.exporter.export(job, place, file) as export:
            await export.wait_until_started()
            yield {}
            while export.result is None:
                yield {"status": "running", **_progress(export)}
                await export.wait_for_update()
            yield _last_line(export.result, {"model_id": job.model_id, **told})


def _progress(export: Export) -> dict[str, Any]:
    return {} if export.progress is None else export.progress.model_dump()


def _last_line(ending: ExportResult | RecServerError, told: Result) -> Result:
    if isinstance(ending, RecServerError):
        return {"status": "failed", **told, "error": str(ending), "code": ending.code}
    return {"status": "completed", **told, **ending.model_dump()}


def _check_target(file: str | None, table: str | None, database: str | None) -> None:
    if (file is None) == (table is None):
        raise InvalidInput.of("file", "must be given, or table in its place: one of the two")
    if database is not None and table is None:
        raise InvalidInput.of("database", "is for a table: give table in place of file")
