"""Lookup of chef classes by type: built-in ones and those of plug-ins."""

from __future__ import annotations

from functools import cache

from recserver._internal.chefs.protocol import Chef
from recserver._internal.core import entry_points
from recserver._internal.core.errors import InvalidInput

GROUP = "recserver.chefs"
"""Group of the entry points of plug-ins."""

CHEF_PATHS = {
    "csv": "recserver._internal.chefs.files.file_chef:CsvChef",
    "sql": "recserver._internal.chefs.sql.sql_chef:SqlChef",
    "api": "recserver._internal.chefs.rest.rest_chef:ApiChef",
}


@cache
def load_chef_class(chef_type: str) -> type[Chef]:
    """The chef class for entries whose ``type`` is ``chef_type``.

    Raises:
        InvalidInput: if there is none, with the known types.
    """
    if not chef_type:
        raise InvalidInput.of("type", "is missing: set it to csv, sql or api")
    found: type[Chef] = entry_points.load("type", chef_type, CHEF_PATHS, GROUP)
    return found
