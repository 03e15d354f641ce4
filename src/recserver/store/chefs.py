"""``config/restaurant_data.yaml``: every data chef's entry, read anew at each use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recserver.errors import InvalidInput, StorageUnreadable
from recserver.store import files

DEEPEST = 20

Entries = dict[str, dict[str, Any]]


class ChefStore:
    """The data chefs of one data folder. Entries that nobody can use are kept as they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = asyncio.Lock()

    async def read(self) -> Entries:
        """All entries by id; an entry that is no mapping becomes an empty one.

        Raises:
            StorageUnreadable: if the file cannot be parsed.
        """
        whole = await self._load()
        return {name: dict(entry) if isinstance(entry, Mapping) else {} for name, entry in whole.items()}

    async def put(self, data_chef_id: str, entry: dict[str, Any]) -> None:
        """Add or replace one entry."""
        async with self._lock:
            await self._save(await self._load() | {data_chef_id: entry})

    async def delete(self, data_chef_id: str) -> None:
        """Remove one entry, if it is there."""
        async with self._lock:
            whole = await self._load()
            if whole.pop(data_chef_id, None) is not None:
                await self._save(whole)

    async def clear_temporaries(self) -> None:
        """Remove what a killed server left half written."""
        await files.clear_temporaries(self.path.parent)

    async def _load(self) -> dict[str, Any]:
        try:
            text = await files.read_document(self.path)
        except FileNotFoundError:
            return {}
        except (InvalidInput, OSError) as error:
            raise StorageUnreadable(f"restaurant_data.yaml cannot be read: {error}") from None
        try:
            content = await asyncio.to_thread(_parse, text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            place = getattr(error, "problem_mark", None)
            where = f" at line {place.line + 1}" if place else ""
            raise StorageUnreadable(
                f"restaurant_data.yaml cannot be parsed{where}: correct it by hand. Nothing was changed."
            ) from None
        return content

    async def _save(self, whole: dict[str, Any]) -> None:
        text = await asyncio.to_thread(_render, whole)
        await files.write_whole(self.path, text, files.PRIVATE)


class _Loader(yaml.SafeLoader):
    """Plain data only: no aliases, which can blow up, no duplicate keys, no bottomless nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise ValueError("aliases are not read here")
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST}")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise ValueError("a key stands there twice")
        return mapping


def _parse(text: bytes) -> dict[str, Any]:
    content = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that refuses even more
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError("not a mapping")
    named = {str(key): entry for key, entry in content.items()}
    if len(named) != len(content):
        raise ValueError("an id stands there twice")
    return named


def _render(whole: dict[str, Any]) -> bytes:
    text = yaml.safe_dump(whole, sort_keys=True, allow_unicode=True, default_flow_style=False)
    return str(text).encode()
