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
from recserver.algorithms.neighbors import ItemItemWeights
from recserver.algorithms.nmf.params import DEFAULT_BLEND, DEFAULT_REGULARIZATION, NMFParams
from recserver.algorithms.protocol import FitContext, FittedModel

if TYPE_CHECKING:
    from recserver.algorithms.nmf.hals import Factorisation
    from recserver.algorithms.preprocessing import InputMatrices


class NMF(BaseAlgorithm[NMFParams]):
    """The nmf family; names differ by their defaults."""

    model_type = "nmf"
    model_class = "NMFRecommendationModel"
    params = NMFParams

    def max_warm_starts(self, hyperparameters: Mapping[str, Any]) -> int:
        params = self.resolve(hyperparameters)
        return params.warm_starts if params.solver == "hals" else 0

    def tune(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> dict[str, Any]:
        from recserver.algorithms.nmf.tuning import tune

        return tune(interactions, self.resolve(hyperparameters), context)

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        from recserver.algorithms.nmf.fit import (
            build_fold_in,
            fit_factors,
            fit_neighbors,
            prepare,
            usable_warm_start,
        )
        from recserver.algorithms.preprocessing import clamp_rank

        notes: list[str] = []
        params = self.resolve(hyperparameters)
        params = clamp_rank(params, interactions, notes).model_copy(update=_resolved_defaults(params))
        found = prepare(interactions, params, notes)
        fit = fit_factors(found, params, context, notes)
        neighbors = fit_neighbors(found, params, fit.columns, context.threads) if params.blend else None
        return replace(
            _fitted_model(found, params, fit, neighbors, notes),
            fold_in=build_fold_in(found, params, fit.columns),
            warm_started=usable_warm_start(params, context) is not None,
        )


def _resolved_defaults(params: NMFParams) -> dict[str, Any]:
    """What holds where nothing was given and nothing chosen."""
    blend = DEFAULT_BLEND if params.blend is None else params.blend
    regularization = DEFAULT_REGULARIZATION if params.weighting == "degree" and not params.alpha else 0.0
    return {
        "blend": blend if params.neighbors else 0.0,
        "regularization": regularization if params.regularization is None else params.regularization,
    }


def _fitted_model(
    inputs: InputMatrices,
    params: NMFParams,
    factorisation: Factorisation,
    neighbors: ItemItemWeights | None,
    warnings: list[str],
) -> FittedModel:
    scale = inputs.item_scale * np.float32(1 - (params.blend or 0.0))
    return FittedModel(
        users=factorisation.rows,
        items=factorisation.columns * scale[:, None],
        hyperparameters=params.model_dump(),
        metrics={
            "n_components": params.n_components,
            "reconstruction_error": factorisation.error,
            "iterations": factorisation.iterations,
            "has_user_features": False,
            "has_item_features": False,
        },
        warnings=tuple(warnings),
        neighbors=neighbors,
        item_scale=scale,
        confidences=inputs.confidences.data,
    )


nmf = NMF(n_components=128, solver="hals", max_iter=200)
nmf_fast = NMF(n_components=32, solver="hals", max_iter=10, neighbors=50, regularization=0.09, blend=0.7)
nmf_accurate = NMF(n_components=256, solver="hals", max_iter=500, neighbors=200)
