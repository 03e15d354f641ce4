"""Verbs about data chefs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Unpack

from pydantic import TypeAdapter, ValidationError

from recserver.chefs.lookup import load_chef_class
from recserver.chefs.secrets import redact_variables, restore_masked
from recserver.core.errors import DataChefExists, DataChefNotFound, InvalidInput
from recserver.core.validation.messages import field_errors
from recserver.core.validation.values import Bool, Count, JsonObject, KnownId, NewId, Text, require_new
from recserver.server.service.chef_requests import (
    DEFINITIONS,
    DISPLAY_KEYS,
    ApiDefinition,
    CsvDefinition,
    SqlDefinition,
    check_definition,
    display_entry,
    to_entry,
    with_request_names,
)
from recserver.server.service.operation import Operations, Result, mutation, operation
from recserver.server.service.unknown_chef_keys import field_warnings, key_warnings
from recserver.training.executors.protocol import PREVIEW_SECONDS
from recserver.training.jobs import Preview, PreviewJob
from recserver.training.task import TaskSpec

MAX_STATEMENT_SECONDS = PREVIEW_SECONDS - 5
"""Seconds that a source may work for a preview: before the preview is ended, its chef shall say what kept it."""

_JSON_OBJECT = TypeAdapter(JsonObject)


class ChefOperations(Operations):
    """Create, look through, list and delete data chefs. Only looking through one contacts its source."""

    @mutation
    async def create_data_chef_from_csv(
        self, data_chef_id: NewId, *, overwrite: Bool = False, **definition: Unpack[CsvDefinition]
    ) -> Result:
        """A chef that reads a file."""
        return await self._create(data_chef_id, to_entry("csv", definition), overwrite)

    @mutation
    async def create_data_chef_from_sql(
        self, data_chef_id: NewId, *, overwrite: Bool = False, **definition: Unpack[SqlDefinition]
    ) -> Result:
        """A chef that reads the rows of one SELECT."""
        return await self._create(data_chef_id, to_entry("sql", definition), overwrite)

    @mutation
    async def create_data_chef_from_api(
        self, data_chef_id: NewId, *, overwrite: Bool = False, **definition: Unpack[ApiDefinition]
    ) -> Result:
        """A chef that fetches JSON over HTTP."""
        return await self._create(data_chef_id, to_entry("api", definition), overwrite)

    @operation
    async def preview_data_chef(self, data_chef_id: KnownId, *, rows: Count = 20) -> Result:
        """The first rows of a source, before and after renaming, and what is wrong with them."""
        entry = (await self.services.chefs.read()).get(data_chef_id)
        if entry is None:
            raise DataChefNotFound(data_chef_id)
        result = {"data_chef_id": data_chef_id} | await self._preview(entry, rows)
        return _with_warnings(result, await asyncio.to_thread(key_warnings, entry))

    @operation
    async def validate_data_chef(
        self,
        *,
        type: Text,  # noqa: A002 - the entry's own word
        data_chef_id: KnownId | None = None,
        rows: Count = 20,
        **definition: Any,
    ) -> Result:
        """What :meth:`preview_data_chef` would say of a definition that is not saved, or not yet.

        Args:
            type: ``csv``, ``sql``, ``api``, or the name of a plug-in.
            data_chef_id: of the stored data chef whose secrets stand behind masks.
            definition: as for ``create_data_chef_from_…``, or an entry as it is listed.
        """
        kind = type.lower()
        no_keys = {"overwrite", *(DISPLAY_KEYS if kind in DEFINITIONS else ())}
        definition = {name: value for name, value in definition.items() if name not in no_keys}
        stored = (await self.services.chefs.read()).get(data_chef_id or "")
        entry, warnings = await asyncio.to_thread(self._checked_entry, kind, definition, stored)
        result = await self._preview(entry, rows)
        return _with_warnings(result, warnings)

    @operation
    async def list_data_chefs(self) -> Result:
        """All data chefs by id, without their secrets; one that cannot be used says why."""
        entries = await self.services.chefs.read()
        return {
            name: await asyncio.to_thread(display_entry, entry, self.services.policy)
            for name, entry in entries.items()
        }

    @mutation
    async def delete_data_chef(self, data_chef_id: KnownId) -> Result:
        """Remove a data chef. Tasks that name it stay, and do not run until it exists again."""
        if data_chef_id not in await self.services.chefs.read():
            raise DataChefNotFound(data_chef_id)
        wanted = await self.services.runner.read_tasks()
        affected = [
            name for name, one in wanted.items() if isinstance(one, TaskSpec) and data_chef_id in one.chef_ids()
        ]
        await self.services.chefs.delete(data_chef_id)
        return {
            "message": f"Data chef {data_chef_id} was deleted.",
            "data_chef_id": data_chef_id,
            "tasks_affected": affected,
        }

    async def _create(self, data_chef_id: str, entry: dict[str, Any], overwrite: bool) -> Result:
        parts = self.services
        stored = await parts.chefs.read()
        require_new(DataChefExists, "Data chef", data_chef_id, stored, overwrite)
        try:
            entry = restore_masked(entry, stored.get(data_chef_id))
            warnings = await asyncio.to_thread(self._warnings_of, entry)
        except InvalidInput as error:
            raise with_request_names(error) from None
        await parts.chefs.put(data_chef_id, entry)
        await parts.scheduler.reconcile()
        result = {
            "message": f"Data chef {data_chef_id} was created; its source is read when a task trains from it.",
            "data_chef_id": data_chef_id,
            "type": entry["type"],
        }
        return _with_warnings(result, warnings)

    async def _preview(self, entry: dict[str, Any], rows: int) -> Result:
        policy = self.services.policy
        patience = min(policy.source_timeout, MAX_STATEMENT_SECONDS)
        policy = policy.model_copy(update={"source_timeout": patience})
        seen = await self.services.executor.preview(PreviewJob(data_chef=entry, policy=policy, rows=rows))
        return {"message": _summary(seen), **seen.model_dump()}

    def _checked_entry(
        self, kind: str, definition: dict[str, Any], stored: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], list[str]]:
        """The entry that a definition becomes, its secrets restored, and warnings.

        Raises:
            InvalidInput: naming every field that is missing or wrong as the request did.
        """
        if kind not in DEFINITIONS:
            try:
                entry = {"type": kind, **_JSON_OBJECT.validate_python(definition)}
            except ValidationError as error:
                problems = field_errors(error)
                raise InvalidInput(f"{problems[0]}.", problems) from None
            load_chef_class(kind)(restored := restore_masked(entry, stored), self.services.policy)
            return restored, []
        found = check_definition(kind, definition)
        try:
            entry = restore_masked(found.entry, stored)
            load_chef_class(kind)(entry, self.services.policy)
        except InvalidInput as error:
            raise with_request_names(error, found.names) from None
        return entry, field_warnings(found.ignored, kind, found.fields) + key_warnings(entry)

    def _warnings_of(self, entry: dict[str, Any]) -> list[str]:
        warnings = load_chef_class(entry["type"])(entry, self.services.policy).warnings()
        return [*(redact_variables(one, entry) for one in warnings), *key_warnings(entry)]


def _with_warnings(result: Result, warnings: list[str]) -> Result:
    return result | ({"warnings": warnings} if warnings else {})


def _summary(preview: Preview) -> str:
    """A preview in one sentence."""
    if not preview.rows_read:
        return "The source was reached and holds no rows."
    bad = sum(preview.rejected.values())
    left_out = f" A training would leave out {bad} of them." if bad else ""
    replaced = "".join(f" In {n} of them the {what}, so that it counts 1." for what, n in preview.replaced.items())
    advice = " The suggestions say what to change." if preview.suggestions else ""
    start = f"The first {preview.rows_read} rows were read and {len(preview.raw)} of them are shown."
    return f"{start}{left_out}{replaced}{advice}"
