"""Non-negative matrix factorisation of evened-out interactions, with a sparse neighbour term beside the factors.

With B the users' interactions, D the diagonal matrices of degrees and Z = D_users^-0.3 B:

1. Factors W, H of ``Z D_items^-0.3`` (``hals``), with the same l2 penalty, a share of the largest singular value.
2. Item weights S of B (``item_weights``), on each item's nearest neighbours.
3. Score ``(1 - blend) (w_u . h_i) n_i^0.3 + blend (z_u S)_i``. As B S foretells B, Z S foretells Z,
   as the factors do: nothing needs rescaling.

``weighting="none", neighbors=0, solver="cd"`` or ``"mu"`` is scikit-learn's NMF of the ratings, 0 if missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recserver.algorithms.base import BaseAlgorithm
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.neighbors import Neighbors
from recserver.algorithms.nmf.params import BLEND, REGULARIZATION, NMFParams
from recserver.algorithms.protocol import Factors, Surroundings

if TYPE_CHECKING:
    from recserver.algorithms.nmf.hals import Factorisation
    from recserver.algorithms.preprocessing import Matrices


class NMF(BaseAlgorithm[NMFParams]):
    """The nmf family; names differ by their defaults."""

    model_type = "nmf"
    model_class = "NMFRecommendationModel"
    params = NMFParams

    def warm_starts(self, hyperparameters: Mapping[str, Any]) -> int:
        params = self.used(hyperparameters)
        return params.warm_starts if params.solver == "hals" else 0

    def choose(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: Surroundings
    ) -> dict[str, Any]:
        from recserver.algorithms.nmf.tuning import choose

        return choose(interactions, self.used(hyperparameters), surroundings)

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: Surroundings
    ) -> Factors:
        from recserver.algorithms.nmf.fit import factors_of, fit_neighbors, fold_in_of, start_of, to_fit
        from recserver.algorithms.preprocessing import lowered

        notes: list[str] = []
        params = self.used(hyperparameters)
        params = lowered(params, interactions, notes).model_copy(update=_decided(params))
        found = to_fit(interactions, params, notes)
        fit = factors_of(found, params, surroundings, notes)
        neighbors = fit_neighbors(found, params, fit.columns, surroundings.threads) if params.blend else None
        return replace(
            _assembled(found, params, fit, neighbors, notes),
            fold_in=fold_in_of(found, params, fit.columns),
            started_warm=start_of(params, surroundings) is not None,
        )


def _decided(params: NMFParams) -> dict[str, Any]:
    """What holds where nothing was given and nothing chosen."""
    blend = BLEND if params.blend is None else params.blend
    regularization = REGULARIZATION if params.weighting == "degree" and not params.alpha else 0.0
    return {
        "blend": blend if params.neighbors else 0.0,
        "regularization": regularization if params.regularization is None else params.regularization,
    }


def _assembled(
    found: Matrices, params: NMFParams, fit: Factorisation, neighbors: Neighbors | None, notes: list[str]
) -> Factors:
    scale = found.item_scale * np.float32(1 - (params.blend or 0.0))
    return Factors(
        users=fit.rows,
        items=fit.columns * scale[:, None],
        hyperparameters=params.model_dump(),
        metrics={
            "n_components": params.n_components,
            "reconstruction_error": fit.error,
            "iterations": fit.iterations,
            "has_user_features": False,
            "has_item_features": False,
        },
        warnings=tuple(notes),
        neighbors=neighbors,
        item_scale=scale,
        strengths=found.strengths.data,
    )


nmf = NMF(n_components=128, solver="hals", max_iter=200)
nmf_fast = NMF(n_components=32, solver="hals", max_iter=10, neighbors=50, regularization=0.09, blend=0.7)
nmf_accurate = NMF(n_components=256, solver="hals", max_iter=500, neighbors=200)
