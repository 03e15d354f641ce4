"""The operation that exports recommendations for all users to a file or a table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Unpack

from recserver.core.errors import Draining, InvalidInput, ReadOnly, RecServerError
from recserver.core.validation.values import KnownId, Text
from recserver.recommend.prepared_query import PreparedQuery
from recserver.recommend.query import Query
from recserver.recommend.request_options import ExportOptions
from recserver.server.service.operation_decorators import READ_ONLY_MESSAGE, Operations, Result, operation
from recserver.storage.atomic_files import disk, temporary_path
from recserver.training.export.export_job import (
    EXPORT_FOLDER,
    ExportJob,
    FileName,
    FileTarget,
    TableName,
    TableTarget,
    extension_of,
)
from recserver.training.export.table_target import TableLocation, locate_table


class ExportOperations(Operations):
    """Export recommendations."""

    @operation
    async def export_recommendations(
        self,
        *,
        model_id: KnownId,
        file: FileName | None = None,
        table: TableName | None = None,
        database: Text | None = None,
        **options: Unpack[ExportOptions],
    ) -> AsyncGenerator[Result, None]:
        """Write the best items for every user of a model to a file or a table; yields the progress and the result.

        Errors in the request are raised before anything is yielded. Closing the generator cancels the export.
        """
        _check_target(file, table, database)
        if self.draining:
            raise Draining("The server is closing.")
        if self.read_only and file is not None:
            raise ReadOnly(READ_ONLY_MESSAGE)
        model = await self.services.model_cache.get_or_load(model_id)
        await self.services.batcher.run_in_thread(PreparedQuery.for_model, model, Query.from_options(options))
        model_path = await asyncio.to_thread(self.services.models.load_path, model_id)
        target: FileTarget | TableTarget
        path: Path | None
        if table is None:
            folder = self.services.policy.data_dir / EXPORT_FOLDER
            await asyncio.to_thread(disk.make_folder, folder)
            target = FileTarget(out=temporary_path(folder / str(file)), extension=str(extension_of(str(file))))
            key, path, shown = str(file).casefold(), folder / str(file), {"file": f"{EXPORT_FOLDER}/{file}"}
        else:
            target = TableTarget(table=table, database=database, policy=self.services.policy)
            location = await asyncio.to_thread(self._locate_table, target)
            key, path, shown = location.key, location.file, {"table": table}
        job = ExportJob(model_id=model_id, model=model_path, options=options, target=target)
        lines = self._lines(job, key, path, shown)
        await anext(lines)  # raises errors in the request
        return lines

    def _locate_table(self, target: TableTarget) -> TableLocation:
        """The location of a table.

        Raises:
            InvalidInput: if the database cannot be used.
            ReadOnly: if it is a file of the data folder of a read-only server.
        """
        location = locate_table(target)
        if self.read_only and location.file and location.file.is_relative_to(self.services.policy.data_dir):
            raise ReadOnly(READ_ONLY_MESSAGE)
        return location

    async def _lines(
        self, job: ExportJob, key: str, path: Path | None, shown: Result
    ) -> AsyncGenerator[Result, None]:
        """Yields an empty line when the export has started, then its progress, and then its result."""
        async with self.services.exporter.export(job, key, path) as export:
            await export.wait_until_started()
            yield {}
            while export.result is None:
                yield {"status": "running", **(export.progress.model_dump() if export.progress else {})}
                await export.wait_for_update()
            shown, result = {"model_id": job.model_id, **shown}, export.result
            if isinstance(result, RecServerError):
                yield {"status": "failed", **shown, "error": str(result), "code": result.code}
            else:
                yield {"status": "completed", **shown, **result.model_dump()}


def _check_target(file: str | None, table: str | None, database: str | None) -> None:
    if (file is None) == (table is None):
        field, problem = "file", "must be given, or table instead: exactly one of the two"
    elif database is not None and table is None:
        field, problem = "database", "needs table: give table instead of file"
    else:
        return
    raise InvalidInput.of(field, problem)
