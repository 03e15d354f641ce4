"""Documents of objects and lists, looked through level by level: however deep they are, nothing recurses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def levels(document: object) -> Iterator[list[Any]]:
    """All values of a document, one level at a time: the whole first. Keys stand beside the values they name."""
    level: list[Any] = [document]
    while level:
        yield level
        level = [part for one in level for part in _children(one)]


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []
