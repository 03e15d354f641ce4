"""From the name of an algorithm to the algorithm: one of ours, or a plug-in's."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from recserver.algorithms.builtin import BUILTIN_ALGORITHMS
from recserver.algorithms.protocol import Algorithm
from recserver.core import entry_points

logger = logging.getLogger(__name__)

GROUP = "recserver.algorithms"
"""The entry points of plug-ins."""

ALGORITHM_PATHS = {name: entry.import_path for name, entry in BUILTIN_ALGORITHMS.items()}


@cache
def load_algorithm(name: str) -> Algorithm:
    """The algorithm called ``name``.

    Raises:
        InvalidInput: if there is none, naming those there are.
    """
    found: Algorithm = entry_points.load("algorithm", name, ALGORITHM_PATHS, GROUP)
    return found


def describe_algorithms() -> dict[str, dict[str, Any]]:
    """Every algorithm that can be loaded, ours first: what it is, what for, and with which hyperparameters."""
    found = {}
    for name in dict.fromkeys([*BUILTIN_ALGORITHMS, *entry_points.installed_names(GROUP)]):
        try:
            method = load_algorithm(name)
        except Exception:  # whatever an installed package raises is no reason to name no other
            logger.exception("the algorithm %s cannot be loaded", name)
            continue
        said = BUILTIN_ALGORITHMS.get(name, method)
        found[name] = {
            "algorithm": name,
            "model_type": method.model_type,
            "default_params": dict(method.default_params),
            "description": str(getattr(said, "description", "")),
            "use_case": str(getattr(said, "use_case", "")),
        }
    return found
