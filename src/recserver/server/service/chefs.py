"""Verbs about data chefs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Unpack

from pydantic import TypeAdapter, ValidationError

from recserver.chefs.lookup import chef_class
from recserver.chefs.secrets import hide_variables, restore_masked
from recserver.core.errors import DataChefExists, DataChefNotFound, InvalidInput
from recserver.core.validation.messages import field_errors, in_words
from recserver.core.validation.values import Count, KnownId, NewId, PlainObject, Switch, Text, refuse_existing
from recserver.server.service.chef_requests import (
    DEFINITIONS,
    SHOWN_WITH,
    ApiDefinition,
    CsvDefinition,
    SqlDefinition,
    as_asked,
    checked,
    entry_of,
    entry_shown,
)
from recserver.server.service.operation import Result, Verbs, changing_verb, verb
from recserver.server.service.unknown_chef_keys import field_warnings, key_warnings
from recserver.training.executors.protocol import PREVIEW_SECONDS
from recserver.training.jobs import Preview, PreviewJob
from recserver.training.task import TaskSpec

LONGEST_STATEMENT = PREVIEW_SECONDS - 5
"""Seconds that a source may work for a preview: before the preview is ended, its chef shall say what kept it."""

_PLAIN = TypeAdapter(PlainObject)


class ChefVerbs(Verbs):
    """Create, look through, list and delete data chefs. Only looking through one contacts its source."""

    @changing_verb
    async def create_data_chef_from_csv(
        self, data_chef_id: NewId, *, overwrite: Switch = False, **definition: Unpack[CsvDefinition]
    ) -> Result:
        """A chef that reads a file."""
        return await self._create(data_chef_id, entry_of("csv", definition), overwrite)

    @changing_verb
    async def create_data_chef_from_sql(
        self, data_chef_id: NewId, *, overwrite: Switch = False, **definition: Unpack[SqlDefinition]
    ) -> Result:
        """A chef that reads the rows of one SELECT."""
        return await self._create(data_chef_id, entry_of("sql", definition), overwrite)

    @changing_verb
    async def create_data_chef_from_api(
        self, data_chef_id: NewId, *, overwrite: Switch = False, **definition: Unpack[ApiDefinition]
    ) -> Result:
        """A chef that fetches JSON over HTTP."""
        return await self._create(data_chef_id, entry_of("api", definition), overwrite)

    @verb
    async def preview_data_chef(self, data_chef_id: KnownId, *, rows: Count = 20) -> Result:
        """The first rows of a source, before and after renaming, and what is wrong with them."""
        entry = (await self.parts.chefs.read()).get(data_chef_id)
        if entry is None:
            raise DataChefNotFound(data_chef_id)
        result = {"data_chef_id": data_chef_id} | await self._preview(entry, rows)
        return _with(result, await asyncio.to_thread(key_warnings, entry))

    @verb
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
        no_keys = {"overwrite", *(SHOWN_WITH if kind in DEFINITIONS else ())}
        definition = {name: value for name, value in definition.items() if name not in no_keys}
        stored = (await self.parts.chefs.read()).get(data_chef_id or "")
        entry, warnings = await asyncio.to_thread(self._checked, kind, definition, stored)
        result = await self._preview(entry, rows)
        return _with(result, warnings)

    @verb
    async def list_data_chefs(self) -> Result:
        """All data chefs by id, without their secrets; one that cannot be used says why."""
        entries = await self.parts.chefs.read()
        return {
            name: await asyncio.to_thread(entry_shown, entry, self.parts.policy) for name, entry in entries.items()
        }

    @changing_verb
    async def delete_data_chef(self, data_chef_id: KnownId) -> Result:
        """Remove a data chef. Tasks that name it stay, and do not run until it exists again."""
        if data_chef_id not in await self.parts.chefs.read():
            raise DataChefNotFound(data_chef_id)
        wanted = await self.parts.runner.wanted()
        affected = [
            name for name, one in wanted.items() if isinstance(one, TaskSpec) and data_chef_id in one.chef_ids()
        ]
        await self.parts.chefs.delete(data_chef_id)
        return {
            "message": f"Data chef {data_chef_id} was deleted.",
            "data_chef_id": data_chef_id,
            "tasks_affected": affected,
        }

    async def _create(self, data_chef_id: str, entry: dict[str, Any], overwrite: bool) -> Result:
        parts = self.parts
        stored = await parts.chefs.read()
        refuse_existing(DataChefExists, "Data chef", data_chef_id, stored, overwrite)
        try:
            entry = restore_masked(entry, stored.get(data_chef_id))
            warnings = await asyncio.to_thread(self._check, entry)
        except InvalidInput as error:
            raise as_asked(error) from None
        await parts.chefs.put(data_chef_id, entry)
        await parts.scheduler.reconcile()
        result = {
            "message": f"Data chef {data_chef_id} was created; its source is read when a task trains from it.",
            "data_chef_id": data_chef_id,
            "type": entry["type"],
        }
        return _with(result, warnings)

    async def _preview(self, entry: dict[str, Any], rows: int) -> Result:
        policy = self.parts.policy
        patience = min(policy.source_timeout, LONGEST_STATEMENT)
        policy = policy.model_copy(update={"source_timeout": patience})
        seen = await self.parts.executor.preview(PreviewJob(data_chef=entry, policy=policy, rows=rows))
        return {"message": _in_short(seen), **seen.model_dump()}

    def _checked(
        self, kind: str, definition: dict[str, Any], stored: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], list[str]]:
        """The entry that a definition becomes, its secrets restored, and warnings.

        Raises:
            InvalidInput: naming every field that is missing or wrong as the request did.
        """
        if kind not in DEFINITIONS:
            try:
                entry = {"type": kind, **_PLAIN.validate_python(definition)}
            except ValidationError as error:
                problems = field_errors(error)
                raise InvalidInput(f"{in_words(problems[0])}.", problems) from None
            chef_class(kind)(restored := restore_masked(entry, stored), self.parts.policy)
            return restored, []
        found = checked(kind, definition)
        try:
            entry = restore_masked(found.entry, stored)
            chef_class(kind)(entry, self.parts.policy)
        except InvalidInput as error:
            raise as_asked(error, found.names) from None
        return entry, field_warnings(found.ignored, kind, found.fields) + key_warnings(entry)

    def _check(self, entry: dict[str, Any]) -> list[str]:
        warnings = chef_class(entry["type"])(entry, self.parts.policy).warnings()
        return [*(hide_variables(one, entry) for one in warnings), *key_warnings(entry)]


def _with(result: Result, warnings: list[str]) -> Result:
    return result | ({"warnings": warnings} if warnings else {})


def _in_short(seen: Preview) -> str:
    """A preview in one sentence."""
    if not seen.rows_read:
        return "The source was reached and holds no rows."
    bad = sum(seen.rejected.values())
    left_out = f" A training would leave out {bad} of them." if bad else ""
    replaced = "".join(f" In {n} of them the {what}, so that it counts 1." for what, n in seen.replaced.items())
    advice = " The suggestions say what to change." if seen.suggestions else ""
    start = f"The first {seen.rows_read} rows were read and {len(seen.raw)} of them are shown."
    return f"{start}{left_out}{replaced}{advice}"
