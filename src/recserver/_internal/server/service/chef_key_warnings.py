"""Warnings about unknown keys of data chefs, which are often misspelt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from recserver._internal.core.errors import quoted

MAX_WARNINGS = 20
"""Unknown keys that get a warning of their own."""

MIN_SIMILARITY = 0.75
"""Minimum similarity of a suggested key, by difflib's ratio."""

_ENTRY_KEYS = {
    "file_path": "path",
    "api_endpoint": "url",
    "pagination_param": "page_param",
    "size_value": "page_size",
}
"""Name of a field in requests → key of an entry."""


def key_warnings(entry: Mapping[str, Any]) -> list[str]:
    """A warning for every unknown key of an entry; none for data chefs of plug-ins."""
    kind = str(entry.get("type") or "").lower()
    if not (known := _known_keys(kind)):
        return []
    unknown = [(name, known) for name, value in entry.items() if name not in known and value is not None]
    config = entry.get("db_config")
    if kind == "sql" and isinstance(config, Mapping):
        parts = frozenset(f"db_config.{name}" for name in _database_keys())
        names = [f"db_config.{name}" for name, value in config.items() if value is not None]
        unknown += [(name, parts) for name in names if name not in parts]
    end = f"is not a key of {kind} data chefs"
    warnings = [f"{quoted(name)} {end}: {_suggestion(name, among)}" for name, among in unknown]
    return limit_warnings(warnings, "keys")


def field_warnings(ignored: Iterable[str], kind: str, known: Iterable[str]) -> list[str]:
    """A warning for every field of a request that data chefs of type ``kind`` do not have."""
    known, start = list(known), f"is not a field of {kind} data chefs and was ignored"
    ends = {name: f": did you mean {near}?" if (near := _nearest(name, known)) else "." for name in ignored}
    return limit_warnings([f"{quoted(name)} {start}{end}" for name, end in ends.items()], "fields")


def limit_warnings(warnings: list[str], noun: str) -> list[str]:
    """The first :data:`MAX_WARNINGS` of ``warnings``, and the number of the others."""
    further = len(warnings) - MAX_WARNINGS
    return [*warnings[:MAX_WARNINGS], *([f"{further} more {noun} are unknown."] if further > 0 else [])]


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = _ENTRY_KEYS.get(name) or _nearest(name, known)
    return "leave it out." if near is None else f"did you mean {near}?"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    near = get_close_matches(name[:100], list(known), n=1, cutoff=MIN_SIMILARITY)
    return near[0] if near else None


@cache
def _known_keys(kind: str) -> frozenset[str]:
    """The keys of an entry of a built-in type; none for the type of a plug-in."""
    from recserver._internal.chefs.chef_entry import ChefEntry
    from recserver._internal.chefs.files.file_chef import CsvEntry
    from recserver._internal.chefs.rest.rest_entry import ApiEntry
    from recserver._internal.chefs.sql.sql_chef import SqlEntry

    models: dict[str, type[ChefEntry]] = {"csv": CsvEntry, "sql": SqlEntry, "api": ApiEntry}
    return frozenset({"type", *models[kind].model_fields}) if kind in models else frozenset()


@cache
def _database_keys() -> frozenset[str]:
    from recserver._internal.chefs.sql.database_config import DbConfig

    return frozenset(DbConfig.model_fields)
