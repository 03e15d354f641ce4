"""Verbs about data chefs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

from pydantic import StringConstraints

from recserver.errors import DataChefExists, DataChefNotFound, FieldError, InvalidInput, RecServerError
from recserver.plugins import chef_class
from recserver.service.verb import Result, Verbs, changing_verb, verb
from recserver.specs.columns import RenameColumns, canonical_renames
from recserver.specs.reports import in_words
from recserver.specs.secrets import hide_variables, mask_entry, restore_masked
from recserver.specs.tasks import TaskSpec
from recserver.specs.values import KnownId, NewId, PageSize, PlainObject, Switch, Text, refuse_existing

ParameterName = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_.\[\]-]{1,100}$")]


ASKED_AS = {"path": "file_path", "page_param": "pagination_param", "page_size": "size_value"}
"""Keys of an entry, and what requests call them."""


class ChefVerbs(Verbs):
    """Create, list and delete data chefs. None of them contacts a source."""

    @changing_verb
    async def create_data_chef_from_csv(
        self,
        data_chef_id: NewId,
        *,
        file_path: Text,
        rename_columns: RenameColumns = "",
        overwrite: Switch = False,
    ) -> Result:
        """A chef that reads a comma-separated file."""
        entry = {"type": "csv", "path": file_path, "rename_columns": rename_columns}
        return await self._create(data_chef_id, entry, overwrite)

    @changing_verb
    async def create_data_chef_from_sql(
        self,
        data_chef_id: NewId,
        *,
        query: Text,
        db_config: PlainObject | None = None,
        connection: Text | None = None,
        rename_columns: RenameColumns = "",
        overwrite: Switch = False,
    ) -> Result:
        """A chef that reads the rows of one SELECT."""
        entry: dict[str, Any] = {"type": "sql", "query": query, "rename_columns": rename_columns}
        entry |= {"db_config": db_config} if db_config is not None else {}
        entry |= {"connection": connection} if connection is not None else {}
        return await self._create(data_chef_id, entry, overwrite)

    @changing_verb
    async def create_data_chef_from_api(
        self,
        data_chef_id: NewId,
        *,
        url: Text,
        paginated: Switch = False,
        pagination_param: ParameterName = "page",
        size_param: ParameterName = "size",
        size_value: PageSize = 100,
        rename_columns: RenameColumns = "",
        overwrite: Switch = False,
    ) -> Result:
        """A chef that fetches JSON over HTTP."""
        entry: dict[str, Any] = {
            "type": "api",
            "url": url,
            "paginated": paginated,
            "rename_columns": rename_columns,
        }
        if paginated:
            entry |= {"page_param": pagination_param, "size_param": size_param, "page_size": size_value}
        return await self._create(data_chef_id, entry, overwrite)

    @verb
    async def list_data_chefs(self) -> Result:
        """All data chefs by id, without their secrets; one that cannot be used says why."""
        entries = await self.parts.chefs.read()
        return {name: await asyncio.to_thread(self._entry_shown, entry) for name, entry in entries.items()}

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
            raise _as_asked(error) from None
        await parts.chefs.put(data_chef_id, entry)
        await parts.scheduler.reconcile()
        result = {
            "message": f"Data chef {data_chef_id} was created; its source is read when a task trains from it.",
            "data_chef_id": data_chef_id,
            "type": entry["type"],
        }
        return result | ({"warnings": warnings} if warnings else {})

    def _check(self, entry: dict[str, Any]) -> list[str]:
        warnings = chef_class(entry["type"])(entry, self.parts.policy).warnings()
        return [hide_variables(one, entry) for one in warnings]

    def _entry_shown(self, entry: dict[str, Any]) -> Result:
        """An entry as stored, its type in lower case, without secrets, and with what makes it unusable."""
        kind = str(entry.get("type") or "unknown").lower()
        entry = {key: value for key, value in entry.items() if value is not None}
        entry["type"] = "messaging_queue" if kind == "messaging" else kind
        with contextlib.suppress(ValueError):  # the chef itself says what is wrong with them
            entry["rename_columns"] = canonical_renames(entry.get("rename_columns"))
        if kind == "api":
            entry.setdefault("paginated", False)
        try:
            chef_class(kind)(entry, self.parts.policy)
        except RecServerError as error:
            return mask_entry(entry) | {"error": str(error)}
        return mask_entry(entry)


def _as_asked(error: InvalidInput) -> InvalidInput:
    """An entry's faults under the names that the request used."""
    faults = [
        FieldError((*(ASKED_AS.get(name, name) for name in one.loc[:1]), *one.loc[1:]), one.msg)
        for one in error.errors
    ]
    return InvalidInput("; ".join(in_words(one) for one in faults) + ".", faults) if faults else error
