"""Traversal of nested objects and lists without recursion, so that their depth cannot exhaust the stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def levels(document: object) -> Iterator[list[Any]]:
    """The values of a document by level: first the document itself, then its keys and values, and so on."""
    level: list[Any] = [document]
    while level:
        yield level
        level = [child for value in level for child in _children(value)]


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []
