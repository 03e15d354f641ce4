"""Objects by name: built-in ones by import string, those of plug-ins by entry point.

Nothing is imported before it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from recserver._internal.core.errors import InvalidInput, quoted


def load(what: str, name: str, builtin: Mapping[str, str], group: str) -> Any:
    """The object called ``name``: built in, else an entry point.

    Args:
        what: the field that errors name.
        builtin: import strings by name.
        group: of entry points.

    Raises:
        InvalidInput: if the name is unknown, with the known names.
    """
    if name in builtin:
        return EntryPoint(name, builtin[name], group).load()
    installed = {point.name: point for point in entry_points(group=group)}
    if name not in installed:
        known = ", ".join(sorted({*builtin, *installed}))
        raise InvalidInput.of(what, f"{quoted(name)} is not known: take one of {known}")
    return installed[name].load()


def installed_names(group: str) -> list[str]:
    """The sorted names of a group of entry points."""
    return sorted(point.name for point in entry_points(group=group))
