"""Non-negative matrix factorisation of interactions normalised by degree, plus a sparse neighbour term.

With B the users' interactions, D the diagonal matrices of degrees and Z = D_users^-0.3 B:

1. Factors W, H of ``Z D_items^-0.3`` (``hals``), both with an l2 penalty that is a share of the largest singular
   value.
2. Item weights S of B (``item_weights``), on each item's nearest neighbours.
3. Score ``(1 - blend) (w_u . h_i) n_i^0.3 + blend (z_u S)_i``. As B S predicts B, Z S predicts Z,
   as the factors do: no rescaling is needed.

``weighting="none", neighbors=0, solver="cd"`` or ``"mu"`` is scikit-learn's NMF of the raw ratings, 0 if missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recserver._internal.algorithms.base import BaseAlgorithm
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.nmf.params import DEFAULT_BLEND, DEFAULT_REGULARIZATION, NMFParams
from recserver._internal.algorithms.protocol import FitContext, FittedModel, HyperParams


class NMF(BaseAlgorithm[NMFParams]):
    """The nmf family; names differ by their defaults."""

    model_type = "nmf"
    model_class = "NMFRecommendationModel"
    params = NMFParams

    def max_warm_starts(self, hyperparameters: HyperParams) -> int:
        params = self.resolve(hyperparameters)
        return params.warm_starts if params.solver == "hals" else 0

    def tune(
        self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext
    ) -> dict[str, Any]:
        from recserver._internal.algorithms.nmf.tuning import tune

        return tune(interactions, self.resolve(hyperparameters), context)

    def fit(self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext) -> FittedModel:
        from recserver._internal.algorithms.nmf import fit as steps
        from recserver._internal.algorithms.preprocessing import clamp_rank, input_matrices

        warnings: list[str] = []
        params = self.resolve(hyperparameters)
        params = clamp_rank(params, interactions, warnings).model_copy(update=_resolved_defaults(params))
        inputs = input_matrices(interactions, warnings, params.feedback, params.weighting)
        factors = steps.fit_factors(inputs, params, context, warnings)
        scale = inputs.item_scale * np.float32(1 - (params.blend or 0.0))
        return FittedModel(
            users=factors.rows,
            items=factors.columns * scale[:, None],
            hyperparameters=params.model_dump(),
            metrics={
                "n_components": params.n_components,
                "reconstruction_error": factors.error,
                "iterations": factors.iterations,
                "has_user_features": False,
                "has_item_features": False,
            },
            warnings=tuple(warnings),
            neighbors=steps.fit_neighbors(inputs, params, factors.columns, context.threads)
            if params.blend
            else None,
            item_scale=scale,
            fold_in=steps.build_fold_in(inputs, params, factors.columns),
            confidences=inputs.confidences.data,
            warm_started=steps.usable_warm_start(params, context) is not None,
        )


def _resolved_defaults(params: NMFParams) -> dict[str, Any]:
    """The blend and the regularization of a fit, also if they were neither set nor tuned."""
    blend = DEFAULT_BLEND if params.blend is None else params.blend
    regularization = DEFAULT_REGULARIZATION if params.weighting == "degree" and not params.alpha else 0.0
    return {
        "blend": blend if params.neighbors else 0.0,
        "regularization": regularization if params.regularization is None else params.regularization,
    }


nmf = NMF(
    "Non-negative matrix factorisation with a neighbour term, and the balance between both tuned on the data.",
    "The first choice for interactions of any kind and size.",
    n_components=128, solver="hals", max_iter=200,
)  # fmt: skip
nmf_fast = NMF(
    "nmf with fewer factors, neighbours and iterations, and without tuning.",
    "Short training intervals, large data, a first look.",
    n_components=32, solver="hals", max_iter=10, neighbors=50, regularization=0.09, blend=0.7,
)  # fmt: skip
nmf_accurate = NMF(
    "nmf with more factors, neighbours and iterations.",
    "If a training may take longer for slightly better recommendations.",
    n_components=256, solver="hals", max_iter=500, neighbors=200,
)  # fmt: skip
