"""The file ``config/restaurant_data.yaml``, which holds the entries of all data chefs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recserver._internal.core.errors import InvalidInput, StorageUnreadable
from recserver._internal.storage import atomic_files as files

MAX_DEPTH = 20
"""Levels of nesting in the file."""

Entries = dict[str, dict[str, Any]]


class ChefStore:
    """Reads and writes the entries of one data folder. All other entries are preserved, invalid ones included."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = asyncio.Lock()
        self._cache: tuple[bytes, dict[str, Any]] = b"", {}
        """The text that was parsed last, and its content: the file is read often and changes rarely."""

    async def read(self) -> Entries:
        """All entries by id; an entry that is not a mapping becomes an empty one.

        Raises:
            StorageUnreadable: if the file cannot be read or parsed.
        """
        content = await self._load()
        return {name: dict(entry) if isinstance(entry, Mapping) else {} for name, entry in content.items()}

    async def put(self, data_chef_id: str, entry: dict[str, Any]) -> None:
        """Add or replace one entry."""
        async with self._lock:
            await self._save(await self._load() | {data_chef_id: entry})

    async def delete(self, data_chef_id: str) -> None:
        """Remove one entry, if it exists."""
        async with self._lock:
            content = await self._load()
            if data_chef_id in content:
                await self._save({name: entry for name, entry in content.items() if name != data_chef_id})

    async def _load(self) -> dict[str, Any]:
        try:
            text = await asyncio.to_thread(files.read_document, self.path)
        except FileNotFoundError:
            return {}
        except (InvalidInput, OSError) as error:
            reason = f"{error.strerror}." if isinstance(error, OSError) else error
            raise StorageUnreadable(f"restaurant_data.yaml cannot be read: {reason}") from None
        if text == self._cache[0]:
            return self._cache[1]
        try:
            content = await asyncio.to_thread(_parse, text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            location = f" at line {mark.line + 1}" if mark else ""
            raise StorageUnreadable(
                f"restaurant_data.yaml cannot be parsed{location}: correct it by hand. Nothing was changed."
            ) from None
        self._cache = text, content
        return content

    async def _save(self, entries: dict[str, Any]) -> None:
        text = await asyncio.to_thread(_render, entries)
        if len(text) > files.MAX_DOCUMENT_BYTES:  # reading it back would fail
            raise InvalidInput(
                f"restaurant_data.yaml would be larger than {files.MAX_DOCUMENT_BYTES} bytes: "
                "shorten this data chef, or delete unused ones."
            )
        await files.to_thread_shielded(files.write_atomic, self.path, text, files.PRIVATE)


class _Loader(yaml.SafeLoader):
    """Loads only what JSON can represent, because entries are returned as JSON.

    Aliases, which can expand exponentially, duplicate keys, deep nesting and lone surrogates are errors. Dates and
    non-finite numbers are loaded as text. So are ids, even if they look like numbers or booleans.
    """

    depth = 0

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag in _NON_TEXT_TAGS:
                key.tag = _TEXT_TAG
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise ValueError("aliases are not supported")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        text.encode()  # raises UnicodeEncodeError, a ValueError, for lone surrogates
        return text

    def construct_yaml_float(self, node: yaml.ScalarNode) -> Any:
        number = super().construct_yaml_float(node)
        return number if math.isfinite(number) else self.construct_scalar(node)

    def reject(self, node: yaml.Node) -> Any:
        """The constructor for types that JSON does not have."""
        raise ValueError(f"{node.tag} is not supported")

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise ValueError("duplicate key")
        return mapping


_TEXT_TAG = "tag:yaml.org,2002:str"
_NON_TEXT_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "merge", "null", "timestamp", "value")
}
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_scalar)
for _kind in ("binary", "omap", "pairs", "set"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.reject)


def _parse(text: bytes) -> dict[str, Any]:
    content = yaml.load(text, _Loader)  # noqa: S506 - a stricter SafeLoader
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError("not a mapping with text keys")
    return content


def _render(entries: dict[str, Any]) -> bytes:
    text = yaml.safe_dump(entries, sort_keys=True, allow_unicode=True, default_flow_style=False)
    return str(text).encode()
