"""Algorithms by name: the built-in ones and those of plug-ins."""

from __future__ import annotations

import logging
from functools import cache

from recserver._internal.algorithms.protocol import Algorithm
from recserver._internal.core import entry_points
from recserver._internal.results.models import AlgorithmInfo

logger = logging.getLogger(__name__)

GROUP = "recserver.algorithms"
"""The entry point group of plug-ins."""

ALGORITHM_PATHS = {
    "nmf": "recserver._internal.algorithms.nmf.algorithm:nmf",
    "nmf_fast": "recserver._internal.algorithms.nmf.algorithm:nmf_fast",
    "nmf_accurate": "recserver._internal.algorithms.nmf.algorithm:nmf_accurate",
    "svd": "recserver._internal.algorithms.svd:svd",
    "svd_fast": "recserver._internal.algorithms.svd:svd_fast",
    "svd_accurate": "recserver._internal.algorithms.svd:svd_accurate",
    "als": "recserver._internal.algorithms.als:als",
    "ease": "recserver._internal.algorithms.ease:ease",
    "item_knn": "recserver._internal.algorithms.item_knn:item_knn",
    "popular": "recserver._internal.algorithms.popular:popular",
    "auto": "recserver._internal.algorithms.auto.algorithm:auto",
}
"""The import strings of the built-in algorithms."""


@cache
def load_algorithm(name: str) -> Algorithm:
    """The algorithm called ``name``.

    Raises:
        InvalidInput: if there is none, naming the known algorithms.
    """
    algorithm: Algorithm = entry_points.load("algorithm", name, ALGORITHM_PATHS, GROUP)
    return algorithm


def describe_algorithms() -> dict[str, AlgorithmInfo]:
    """Name, family, defaults, description and use case of all algorithms that can be loaded, built-in first."""
    descriptions = {}
    for name in dict.fromkeys([*ALGORITHM_PATHS, *entry_points.installed_names(GROUP)]):
        try:
            algorithm = load_algorithm(name)
        except Exception:  # a broken plug-in must not hide the other algorithms
            logger.exception("the algorithm %s cannot be loaded", name)
            continue
        descriptions[name] = AlgorithmInfo(
            algorithm=name,
            model_type=algorithm.model_type,
            default_params=dict(algorithm.default_params),
            description=str(getattr(algorithm, "description", "")),
            use_case=str(getattr(algorithm, "use_case", "")),
        )
    return descriptions
