"""Keys of an entry that nothing reads, most often misspelt ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from recserver.core.errors import quoted

MAX_WARNINGS = 20
"""Keys without a meaning that are named, each in a warning of its own."""

MIN_SIMILARITY = 0.75
"""How alike two keys must be, by difflib's measure."""

_ENTRY_KEYS = {
    "file_path": "path",
    "api_endpoint": "url",
    "pagination_param": "page_param",
    "size_value": "page_size",
}
"""What requests call a key, and what an entry calls it."""


def key_warnings(entry: Mapping[str, Any]) -> list[str]:
    """A sentence for every key of an entry that means nothing; empty for types that are not ours."""
    kind = str(entry.get("type") or "").lower()
    if not (known := _known_keys(kind)):
        return []
    unknown = [(name, known) for name, value in entry.items() if name not in known and value is not None]
    config = entry.get("db_config")
    if kind == "sql" and isinstance(config, Mapping):
        parts = frozenset(f"db_config.{name}" for name in _database_keys())
        names = [f"db_config.{name}" for name, value in config.items() if value is not None]
        unknown += [(name, parts) for name in names if name not in parts]
    start = f"means nothing to {chef_noun(kind)}"
    return _limited(
        [f"The key {quoted(name)} {start}: {_suggestion(name, among)}" for name, among in unknown], "keys"
    )


def field_warnings(ignored: Iterable[str], kind: str, known: Iterable[str]) -> list[str]:
    """A sentence for every field of a request that means nothing to a data chef of type ``kind``."""
    known, start = list(known), f"means nothing to {chef_noun(kind)} and was ignored"
    ends = {name: f": did you mean {near}?" if (near := _nearest(name, known)) else "." for name in ignored}
    return _limited([f"The field {quoted(name)} {start}{end}" for name, end in ends.items()], "fields")


def _limited(warnings: list[str], noun: str) -> list[str]:
    """The first of ``warnings``, and how many more there are."""
    further = len(warnings) - MAX_WARNINGS
    return [*warnings[:MAX_WARNINGS], *([f"So were {further} further {noun}."] if further > 0 else [])]


def chef_noun(kind: str) -> str:
    """A data chef of a type, with its article."""
    return f"{'an' if kind == 'sql' or kind[:1] in tuple('aeiou') else 'a'} {kind} data chef"


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = _ENTRY_KEYS.get(name) or _nearest(name, known)
    return "leave it out." if near is None else f"did you mean {near}?"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    near = get_close_matches(name[:100], list(known), n=1, cutoff=MIN_SIMILARITY)
    return near[0] if near else None


@cache
def _known_keys(kind: str) -> frozenset[str]:
    """The keys of an entry of a type of ours; none if it is another's."""
    from recserver.chefs.chef_entry import ChefEntry
    from recserver.chefs.files.file_chef import CsvEntry
    from recserver.chefs.rest.rest_entry import ApiEntry
    from recserver.chefs.sql.sql_chef import SqlEntry

    models: dict[str, type[ChefEntry]] = {"csv": CsvEntry, "sql": SqlEntry, "api": ApiEntry}
    return frozenset({"type", *models[kind].model_fields}) if kind in models else frozenset()


@cache
def _database_keys() -> frozenset[str]:
    from recserver.chefs.sql.database_config import DbConfig

    return frozenset(DbConfig.model_fields)
