"""What a name stands for: our own by import string, a third party's by entry point.

Nothing is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from recserver.core.errors import InvalidInput, quoted


def load(what: str, name: str, builtin: Mapping[str, str], group: str) -> Any:
    """The object called ``name``: of ``builtin``, name → import string, or else of the entry points of a group.

    Raises:
        InvalidInput: about the field ``what`` if there is none, naming those there are.
    """
    if name in builtin:
        return EntryPoint(name, builtin[name], group).load()
    installed = {point.name: point for point in entry_points(group=group)}
    if name not in installed:
        known = ", ".join(sorted({*builtin, *installed}))
        raise InvalidInput.of(what, f"{quoted(name)} is not known: take one of {known}")
    return installed[name].load()


def installed_names(group: str) -> list[str]:
    """The names under a group of entry points, sorted."""
    return sorted(point.name for point in entry_points(group=group))
