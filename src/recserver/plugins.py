"""From a name to what does the work: our own by import string, a third party's by entry point.

Nothing is imported before it is used.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from recserver.algorithms import Algorithm
from recserver.chefs import Chef
from recserver.errors import FieldError, InvalidInput, shown

ALGORITHMS = {
    "nmf": "recserver.algorithms.nmf:nmf",
    "nmf_fast": "recserver.algorithms.nmf:nmf_fast",
    "nmf_accurate": "recserver.algorithms.nmf:nmf_accurate",
    "svd": "recserver.algorithms.svd:svd",
    "svd_fast": "recserver.algorithms.svd:svd_fast",
    "svd_accurate": "recserver.algorithms.svd:svd_accurate",
    "als": "recserver.algorithms.als:als",
    "ease": "recserver.algorithms.ease:ease",
    "item_knn": "recserver.algorithms.item_knn:item_knn",
    "popular": "recserver.algorithms.popular:popular",
}
CHEFS = {
    "csv": "recserver.chefs.csv:CsvChef",
    "sql": "recserver.chefs.sql:SqlChef",
    "api": "recserver.chefs.api:ApiChef",
}


@cache
def algorithm(name: str) -> Algorithm:
    """The algorithm called ``name``.

    Raises:
        InvalidInput: if there is none, naming those there are.
    """
    found: Algorithm = _load("algorithm", name, ALGORITHMS)
    return found


@cache
def chef_class(kind: str) -> type[Chef]:
    """The class of the data chefs whose ``type`` is ``kind``.

    Raises:
        InvalidInput: if there is none, naming those there are.
    """
    if not kind:
        message = "is missing: say csv, sql or api"
        raise InvalidInput(f"type: {message}.", [FieldError(("type",), message)])
    found: type[Chef] = _load("type", kind, CHEFS)
    return found


def _load(what: str, name: str, ours: dict[str, str]) -> Any:
    group = "recserver.algorithms" if ours is ALGORITHMS else "recserver.chefs"
    if name in ours:
        return EntryPoint(name, ours[name], group).load()
    installed = {point.name: point for point in entry_points(group=group)}
    if name not in installed:
        known = ", ".join(sorted({*ours, *installed}))
        message = f"{shown(name)} is not known: take one of {known}"
        raise InvalidInput(f"{what}: {message}.", [FieldError((what,), message)])
    return installed[name].load()
