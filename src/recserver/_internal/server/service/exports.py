"""The operation that exports recommendations for all users to a file or a table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Unpack

from recserver._internal.core.errors import Draining, InvalidInput, ReadOnly, RecServerError
from recserver._internal.core.validation.values import KnownId, Text
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import ExportOptions
from recserver._internal.results.exports import ExportStatus
from recserver._internal.server.service.operation import READ_ONLY_MESSAGE, operation
from recserver._internal.server.service.services import Operations
from recserver._internal.storage.atomic_files import disk, temporary_path
from recserver._internal.training.export.export_job import (
    EXPORT_FOLDER,
    ExportJob,
    FileName,
    FileTarget,
    TableName,
    TableTarget,
    extension_of,
)
from recserver._internal.training.export.table_target import TableLocation, locate_table


class ExportOperations(Operations):
    """Export recommendations."""

    tag = "Export"

    @operation(
        "POST",
        scope="admin",
        reports_progress=True,
        may_wait=True,
        example={"model_id": "coffee", "file": "top.csv", "n": 3},
    )
    async def export_recommendations(
        self,
        *,
        model_id: KnownId,
        file: FileName | None = None,
        table: TableName | None = None,
        database: Text | None = None,
        **options: Unpack[ExportOptions],
    ) -> AsyncGenerator[ExportStatus, None]:
        """Write the best items for every user of a model to a file or a table.

        Args:
            model_id: the model whose serving version is exported.
            file: name of a file in ``exports/``, whose extension is its format. It or ``table`` is required.
            table: name of a table. Its rows of other models stay.
            database: URL of the table's database; by default the server's.
            options: see :class:`~recserver._internal.recommend.request_options.ExportOptions`.

        Returns:
            An asynchronous generator of the progress, and of the result at last. Closing it cancels the export.

        Raises:
            InvalidInput: if an argument is invalid, or an attribute is not known.
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
            ExportInProgress: if another export writes to the same place.
            ExportFailed: if the target cannot be written.
            ReadOnly: if the server is read-only and the target is in its data folder.
        """
        _check_target(file, table, database)
        if self.draining:
            raise Draining("The server is closing.")
        if self.read_only and file is not None:
            raise ReadOnly(READ_ONLY_MESSAGE)
        model = await self._services.model_cache.get_or_load(model_id)
        await self._services.batcher.run_in_thread(PreparedQuery.for_model, model, Query.from_options(options))
        model_path = await asyncio.to_thread(self._services.models.load_path, model_id)
        target: FileTarget | TableTarget
        path: Path | None
        if table is None:
            folder = self._services.policy.data_dir / EXPORT_FOLDER
            await asyncio.to_thread(disk.make_folder, folder)
            target = FileTarget(out=temporary_path(folder / str(file)), extension=str(extension_of(str(file))))
            key, path, shown = str(file).casefold(), folder / str(file), f"{EXPORT_FOLDER}/{file}"
        else:
            target = TableTarget(table=table, database=database, policy=self._services.policy)
            location = await asyncio.to_thread(self._locate_table, target)
            key, path, shown = location.key, location.file, None
        job = ExportJob(model_id=model_id, model=model_path, options=options, target=target)
        lines = self._lines(
            job, key, path, ExportStatus(status="running", model_id=model_id, file=shown, table=table)
        )
        await anext(lines)  # raises errors in the request
        return lines

    def _locate_table(self, target: TableTarget) -> TableLocation:
        """The location of a table.

        Raises:
            InvalidInput: if the database cannot be used.
            ReadOnly: if it is a file of the data folder of a read-only server.
        """
        location = locate_table(target)
        if self.read_only and location.file and location.file.is_relative_to(self._services.policy.data_dir):
            raise ReadOnly(READ_ONLY_MESSAGE)
        return location

    async def _lines(
        self, job: ExportJob, key: str, path: Path | None, final: ExportStatus
    ) -> AsyncGenerator[ExportStatus, None]:
        """Yields once when the export has started, then its progress, and then ``final`` with its result."""
        async with self._services.exporter.export(job, key, path) as export:
            await export.wait_until_started()
            yield final
            while export.result is None:
                yield ExportStatus(status="running", **(export.progress.model_dump() if export.progress else {}))
                await export.wait_for_update()
            result = export.result
            if isinstance(result, RecServerError):
                yield final.replace(status="failed", error=str(result), code=result.code)
            else:
                yield final.replace(status="completed", **result.model_dump())


def _check_target(file: str | None, table: str | None, database: str | None) -> None:
    if (file is None) == (table is None):
        field, problem = "file", "must be given, or table instead: exactly one of the two"
    elif database is not None and table is None:
        field, problem = "database", "needs table: give table instead of file"
    else:
        return
    raise InvalidInput.of(field, problem)
