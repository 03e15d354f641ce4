"""Every algorithm of ours: where it is, and in words what it is and what for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from recserver.algorithms.protocol import Algorithm


@dataclass(frozen=True, slots=True)
class BuiltinAlgorithm:
    """One algorithm. ``at`` is an import string."""

    import_path: str
    description: str
    use_case: str


BUILTIN_ALGORITHMS = {
    "nmf": BuiltinAlgorithm(
        "recserver.algorithms.nmf.algorithm:nmf",
        "Non-negative matrix factorisation with a neighbour term; how much each has to say is chosen by the data.",
        "The first choice for interactions of any kind and size.",
    ),
    "nmf_fast": BuiltinAlgorithm(
        "recserver.algorithms.nmf.algorithm:nmf_fast",
        "nmf with fewer factors, neighbours and iterations, and nothing left to choose.",
        "Short intervals, large data, a first look.",
    ),
    "nmf_accurate": BuiltinAlgorithm(
        "recserver.algorithms.nmf.algorithm:nmf_accurate",
        "nmf with more factors, neighbours and iterations.",
        "Where a training may take longer for a little more.",
    ),
    "svd": BuiltinAlgorithm(
        "recserver.algorithms.svd:svd",
        "Truncated singular value decomposition of evened-out interactions (PureSVD).",
        "Small models within seconds, where taste has few dimensions.",
    ),
    "svd_fast": BuiltinAlgorithm(
        "recserver.algorithms.svd:svd_fast",
        "svd with half as many factors.",
        "The quickest model with factors.",
    ),
    "svd_accurate": BuiltinAlgorithm(
        "recserver.algorithms.svd:svd_accurate",
        "svd with twice as many factors, computed exactly.",
        "Large data with many kinds of taste.",
    ),
    "als": BuiltinAlgorithm(
        "recserver.algorithms.als:als",
        "Alternating least squares for implicit feedback, weighted by how much each pair is worth.",
        "Clicks, views and orders, and recommendations from far down the catalogue.",
    ),
    "ease": BuiltinAlgorithm(
        "recserver.algorithms.ease:ease",
        "The linear item-item model in closed form, without factors.",
        "Up to 20,000 items, with memory and time for the square of their number: often the most accurate.",
    ),
    "item_knn": BuiltinAlgorithm(
        "recserver.algorithms.item_knn:item_knn",
        "The cosine of each item with its nearest ones.",
        "A quick and strong baseline: people who took this also took that.",
    ),
    "popular": BuiltinAlgorithm(
        "recserver.algorithms.popular:popular",
        "The most popular items, the same for everybody.",
        "The baseline that others have to beat, and data too few for any of them.",
    ),
    "auto": BuiltinAlgorithm(
        "recserver.algorithms.auto.algorithm:auto",
        "Whichever of several algorithms foretells best what is held out of the data, within a budget of time.",
        "Where nobody knows yet which algorithm suits the data, or the data will change.",
    ),
}


def builtin_algorithm(name: str) -> Algorithm:
    """The algorithm of ours that is called so."""
    module, _, attribute = BUILTIN_ALGORITHMS[name].import_path.partition(":")
    found: Algorithm = getattr(import_module(module), attribute)
    return found
