"""From a name to what does the work: our own by import string, a third party's by entry point.

Nothing is imported before it is used.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from recserver.algorithms import Algorithm
from recserver.algorithms.ours import OURS
from recserver.chefs import Chef
from recserver.errors import FieldError, InvalidInput, shown

logger = logging.getLogger(__name__)

ALGORITHMS = {name: entry.at for name, entry in OURS.items()}
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


def algorithms_described() -> dict[str, dict[str, Any]]:
    """Every algorithm that can be loaded, ours first: what it is, what for, and with which hyperparameters."""
    found = {}
    for name in dict.fromkeys(
        [*OURS, *sorted(point.name for point in entry_points(group="recserver.algorithms"))]
    ):
        try:
            method = algorithm(name)
        except Exception:  # whatever an installed package raises is no reason to name no other
            logger.exception("the algorithm %s cannot be loaded", name)
            continue
        said = OURS.get(name, method)
        found[name] = {
            "algorithm": name,
            "model_type": method.model_type,
            "default_params": dict(method.default_params),
            "description": str(getattr(said, "description", "")),
            "use_case": str(getattr(said, "use_case", "")),
        }
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
