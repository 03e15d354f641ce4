"""Every algorithm of ours: where it is, and in words what it is and what for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from recserver.algorithms.protocol import Algorithm


@dataclass(frozen=True, slots=True)
class Entry:
    """One algorithm. ``at`` is an import string."""

    at: str
    description: str
    use_case: str


OURS = {
    "nmf": Entry(
        "recserver.algorithms.nmf.algorithm:nmf",
        "Non-negative matrix factorisation with a neighbour term; how much each has to say is chosen by the data.",
        "The first choice for interactions of any kind and size.",
    ),
    "nmf_fast": Entry(
        "recserver.algorithms.nmf.algorithm:nmf_fast",
        "nmf with fewer factors, neighbours and iterations, and nothing left to choose.",
        "Short intervals, large data, a first look.",
    ),
    "nmf_accurate": Entry(
        "recserver.algorithms.nmf.algorithm:nmf_accurate",
        "nmf with more factors, neighbours and iterations.",
        "Where a training may take longer for a little more.",
    ),
    "svd": Entry(
        "recserver.algorithms.svd:svd",
        "Truncated singular value decomposition of evened-out interactions (PureSVD).",
        "Small models within seconds, where taste has few dimensions.",
    ),
    "svd_fast": Entry(
        "recserver.algorithms.svd:svd_fast",
        "svd with half as many factors.",
        "The quickest model with factors.",
    ),
    "svd_accurate": Entry(
        "recserver.algorithms.svd:svd_accurate",
        "svd with twice as many factors, computed exactly.",
        "Large data with many kinds of taste.",
    ),
    "als": Entry(
        "recserver.algorithms.als:als",
        "Alternating least squares for implicit feedback, weighted by how much each pair is worth.",
        "Clicks, views and orders, and recommendations from far down the catalogue.",
    ),
    "ease": Entry(
        "recserver.algorithms.ease:ease",
        "The linear item-item model in closed form, without factors.",
        "Up to 20,000 items, with memory and time for the square of their number: often the most accurate.",
    ),
    "item_knn": Entry(
        "recserver.algorithms.item_knn:item_knn",
        "The cosine of each item with its nearest ones.",
        "A quick and strong baseline: people who took this also took that.",
    ),
    "popular": Entry(
        "recserver.algorithms.popular:popular",
        "The most popular items, the same for everybody.",
        "The baseline that others have to beat, and data too few for any of them.",
    ),
    "auto": Entry(
        "recserver.algorithms.auto.algorithm:auto",
        "Whichever of several algorithms foretells best what is held out of the data, within a budget of time.",
        "Where nobody knows yet which algorithm suits the data, or the data will change.",
    ),
}


def ours(name: str) -> Algorithm:
    """The algorithm of ours that is called so."""
    module, _, attribute = OURS[name].at.partition(":")
    found: Algorithm = getattr(import_module(module), attribute)
    return found
