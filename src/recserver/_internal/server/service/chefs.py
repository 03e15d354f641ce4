"""Operations on data chefs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Unpack

from pydantic import TypeAdapter, ValidationError

from recserver._internal.chefs.lookup import load_chef_class
from recserver._internal.chefs.secrets import redact_variables, restore_masked
from recserver._internal.core.errors import DataChefExists, DataChefNotFound, InvalidInput
from recserver._internal.core.validation.messages import field_errors
from recserver._internal.core.validation.values import Bool, Count, JsonObject, KnownId, NewId, Text, require_new
from recserver._internal.results.data_chefs import CreatedDataChef, DataChefInfo, DataPreview, DeletedDataChef
from recserver._internal.server.service.chef_key_warnings import field_warnings, key_warnings
from recserver._internal.server.service.chef_requests import (
    DEFINITIONS,
    DISPLAY_KEYS,
    ApiDefinition,
    CsvDefinition,
    SqlDefinition,
    display_entry,
    fields_of,
    read_definition,
    to_entry,
    with_request_names,
)
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.services import Operations
from recserver._internal.server.service.tasks import readable_tasks
from recserver._internal.training.executors.protocol import PREVIEW_SECONDS
from recserver._internal.training.jobs import Preview, PreviewJob

MAX_STATEMENT_SECONDS = PREVIEW_SECONDS - 5
"""Seconds that a source may take: less than the preview itself, so that the chef can report the cause."""

_JSON_OBJECT = TypeAdapter(JsonObject)


class ChefOperations(Operations):
    """Create, preview, list and delete data chefs. Only a preview contacts the source."""

    tag = "Data chefs"

    @operation(
        "POST",
        scope="admin",
        changes="definitions",
        aliases={"name": "data_chef_id", "path": "file_path"},
        example={"data_chef_id": "orders", "file_path": "orders.csv"},
    )
    async def create_data_chef_from_csv(
        self, data_chef_id: NewId, *, overwrite: Bool = False, **definition: Unpack[CsvDefinition]
    ) -> CreatedDataChef:
        """Create a data chef that reads a file. The file is not read yet.

        Args:
            data_chef_id: its id.
            overwrite: replace an existing data chef.
            definition: see :class:`~recserver._internal.server.service.chef_requests.CsvDefinition`.

        Raises:
            InvalidInput: if the definition is invalid, or the file is outside of the allowed folders.
            DataChefExists: if there is such a data chef, unless ``overwrite``.
        """
        return await self._create(data_chef_id, to_entry("csv", definition), overwrite)

    @operation(
        "POST",
        scope="admin",
        changes="definitions",
        aliases={"name": "data_chef_id"},
        example={
            "data_chef_id": "shop",
            "query": "SELECT customer AS user_id, product AS item_id FROM orders",
            "connection": "postgresql://reader@db.example.com/shop",
        },
    )
    async def create_data_chef_from_sql(
        self, data_chef_id: NewId, *, overwrite: Bool = False, **definition: Unpack[SqlDefinition]
    ) -> CreatedDataChef:
        """Create a data chef that reads the rows of a SELECT. The database is not contacted yet.

        Args:
            data_chef_id: its id.
            overwrite: replace an existing data chef.
            definition: see :class:`~recserver._internal.server.service.chef_requests.SqlDefinition`.

        Raises:
            InvalidInput: if the definition is invalid, or the query does not only read.
            DataChefExists: if there is such a data chef, unless ``overwrite``.
        """
        return await self._create(data_chef_id, to_entry("sql", definition), overwrite)

    @operation(
        "POST",
        scope="admin",
        changes="definitions",
        aliases={"name": "data_chef_id", "api_endpoint": "url"},
        example={"data_chef_id": "clicks", "url": "https://shop.example.com/clicks", "paginated": True},
    )
    async def create_data_chef_from_api(
        self, data_chef_id: NewId, *, overwrite: Bool = False, **definition: Unpack[ApiDefinition]
    ) -> CreatedDataChef:
        """Create a data chef that fetches JSON over HTTP. The address is not contacted yet.

        Args:
            data_chef_id: its id.
            overwrite: replace an existing data chef.
            definition: see :class:`~recserver._internal.server.service.chef_requests.ApiDefinition`.

        Raises:
            InvalidInput: if the definition is invalid, or the address is not allowed.
            DataChefExists: if there is such a data chef, unless ``overwrite``.
        """
        return await self._create(data_chef_id, to_entry("api", definition), overwrite)

    @operation(
        "GET",
        "/{data_chef_id}",
        scope="admin",
        aliases={"name": "data_chef_id"},
        example={"data_chef_id": "orders", "rows": 2},
    )
    async def preview_data_chef(self, data_chef_id: KnownId, *, rows: Count = 20) -> DataPreview:
        """The first rows of a source, before and after renaming, and what should be changed.

        Args:
            data_chef_id: the data chef.
            rows: how many rows to show. More are read and validated.

        Raises:
            DataChefNotFound: if there is no such data chef.
            SourceFailed: if its source cannot be read, with the source's own reason.
        """
        entry = (await self._services.chefs.read()).get(data_chef_id)
        if entry is None:
            raise DataChefNotFound(data_chef_id)
        preview = await self._preview(entry, rows, await asyncio.to_thread(key_warnings, entry))
        return preview.replace(data_chef_id=data_chef_id)

    @operation(
        "POST",
        scope="admin",
        aliases={"name": "data_chef_id"},
        example={"type": "csv", "file_path": "orders.csv", "rows": 2},
    )
    async def validate_data_chef(
        self,
        *,
        type: Text,  # noqa: A002 - the key of the entry
        data_chef_id: KnownId | None = None,
        rows: Count = 20,
        **definition: Any,
    ) -> DataPreview:
        """The preview of a definition that is not saved.

        Args:
            type: ``csv``, ``sql``, ``api``, or the name of a plug-in.
            data_chef_id: the stored data chef whose secrets replace masked ones.
            rows: how many rows to show. More are read and validated.
            definition: as for ``create_data_chef_from_…``, or an entry as it is listed.

        Raises:
            InvalidInput: if the definition is invalid.
            SourceFailed: if the source cannot be read, with the source's own reason.
        """
        kind = type.lower()
        excluded = {"overwrite", *(DISPLAY_KEYS if kind in DEFINITIONS else ())}
        definition = {name: value for name, value in definition.items() if name not in excluded}
        stored = (await self._services.chefs.read()).get(data_chef_id or "")
        entry, warnings = await asyncio.to_thread(self._validated_entry, kind, definition, stored)
        return await self._preview(entry, rows, warnings)

    @operation("GET", scope="read")
    async def list_data_chefs(self) -> dict[str, DataChefInfo]:
        """All data chefs by id, their secrets masked; an invalid one has an ``error``."""
        entries = await self._services.chefs.read()
        return {
            name: DataChefInfo.from_dict(await asyncio.to_thread(display_entry, entry, self._services.policy))
            for name, entry in entries.items()
        }

    @operation(
        "DELETE",
        "/{data_chef_id}",
        scope="admin",
        changes="definitions",
        aliases={"name": "data_chef_id"},
        example={"data_chef_id": "orders"},
    )
    async def delete_data_chef(self, data_chef_id: KnownId) -> DeletedDataChef:
        """Delete a data chef. Tasks that name it stay, and do not run until it exists again.

        Args:
            data_chef_id: the data chef.

        Raises:
            DataChefNotFound: if there is no such data chef.
        """
        if data_chef_id not in await self._services.chefs.read():
            raise DataChefNotFound(data_chef_id)
        tasks = await readable_tasks(self._services.runner)
        await self._services.chefs.delete(data_chef_id)
        return DeletedDataChef(
            message=f"Data chef {data_chef_id} was deleted.",
            data_chef_id=data_chef_id,
            tasks_affected=[name for name, spec in tasks.items() if data_chef_id in spec.chef_ids()],
        )

    async def _create(self, data_chef_id: str, entry: dict[str, Any], overwrite: bool) -> CreatedDataChef:
        chefs = self._services.chefs
        stored = await chefs.read()
        require_new(DataChefExists, "Data chef", data_chef_id, stored, overwrite)
        try:
            entry = restore_masked(entry, stored.get(data_chef_id))
            warnings = await asyncio.to_thread(self._warnings_of, entry)
        except InvalidInput as error:
            raise with_request_names(error) from None
        await chefs.put(data_chef_id, entry)
        await self._services.scheduler.reconcile()
        return CreatedDataChef(
            message=f"Data chef {data_chef_id} was created; its source is read when a task trains from it.",
            data_chef_id=data_chef_id,
            type=entry["type"],
            warnings=warnings,
        )

    async def _preview(self, entry: dict[str, Any], rows: int, warnings: list[str]) -> DataPreview:
        policy = self._services.policy
        timeout = min(policy.source_timeout, MAX_STATEMENT_SECONDS)
        policy = policy.model_copy(update={"source_timeout": timeout})
        preview = await self._services.executor.preview(PreviewJob(data_chef=entry, policy=policy, rows=rows))
        return DataPreview(message=_summary(preview), warnings=warnings, **preview.model_dump())

    def _validated_entry(
        self, kind: str, definition: dict[str, Any], stored: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], list[str]]:
        """The entry of a definition, with its secrets restored, and warnings.

        Raises:
            InvalidInput: naming every field that is missing or invalid as the request did.
        """
        if kind not in DEFINITIONS:
            try:
                entry = {"type": kind, **_JSON_OBJECT.validate_python(definition)}
            except ValidationError as error:
                problems = field_errors(error)
                raise InvalidInput(f"{problems[0]}.", problems) from None
            entry = restore_masked(entry, stored)
            load_chef_class(kind)(entry, self._services.policy)
            return entry, []
        entry, names, ignored = read_definition(kind, definition)
        try:
            entry = restore_masked(entry, stored)
            load_chef_class(kind)(entry, self._services.policy)
        except InvalidInput as error:
            raise with_request_names(error, names) from None
        return entry, field_warnings(ignored, kind, fields_of(kind)) + key_warnings(entry)

    def _warnings_of(self, entry: dict[str, Any]) -> list[str]:
        warnings = load_chef_class(entry["type"])(entry, self._services.policy).warnings()
        return [*(redact_variables(one, entry) for one in warnings), *key_warnings(entry)]


def _summary(preview: Preview) -> str:
    """A preview in one or more sentences."""
    if not preview.rows_read:
        return "The source was reached and holds no rows."
    rejected = sum(preview.rejected.values())
    omitted = f" A training would reject {rejected} of them." if rejected else ""
    replaced = "".join(f" In {n} of them the {what}, so that it counts 1." for what, n in preview.replaced.items())
    hint = " See suggestions for what to change." if preview.suggestions else ""
    start = f"The first {preview.rows_read} rows were read and {len(preview.raw)} of them are shown."
    return f"{start}{omitted}{replaced}{hint}"
