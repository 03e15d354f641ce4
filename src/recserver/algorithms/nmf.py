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
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from recserver.algorithms import Factors, Surroundings
from recserver.algorithms.params import BaseAlgorithm, Feedback, Params, RandomState, Real
from recserver.interactions import Interactions
from recserver.neighbors import Neighbors
from recserver.specs.values import WholeNumber

if TYPE_CHECKING:
    from recserver.algorithms.hals import Factorisation
    from recserver.algorithms.matrices import Matrices

REGULARIZATION, BLEND = 0.09, 0.7
"""Where they are left to the data, and the data are too few to tell."""


def _or_auto(value: object) -> object:
    return None if value == "auto" else value


Auto = BeforeValidator(_or_auto)


class NMFParams(Params):
    """Hyperparameters of the nmf family."""

    n_components: Annotated[WholeNumber, Field(ge=1, le=1000)] = 128
    solver: Literal["hals", "cd", "mu"] = "hals"
    max_iter: Annotated[WholeNumber, Field(ge=1, le=10_000)] = 200
    random_state: RandomState = 42
    alpha: Annotated[Real, Field(ge=0, le=10)] = 0.0
    l1_ratio: Annotated[Real, Field(ge=0, le=1)] = 0.0
    tol: Annotated[Real, Field(ge=0, le=1)] = 1e-4
    init: Literal["random", "nndsvd", "nndsvda", "nndsvdar"] = "random"
    beta_loss: Literal["frobenius"] = "frobenius"
    weighting: Literal["degree", "none"] = "degree"
    feedback: Feedback = "auto"
    regularization: Annotated[Real | None, Field(ge=0, le=10), Auto] = None
    neighbors: Annotated[WholeNumber, Field(ge=0, le=1000)] = 100
    blend: Annotated[Real | None, Field(ge=0, le=1), Auto] = None
    warm_starts: Annotated[WholeNumber, Field(ge=0, le=1000)] = 10

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.solver != "hals" and self.regularization and self.alpha and self.l1_ratio:
            raise ValueError(
                f"regularization cannot be added to alpha and l1_ratio with solver {self.solver}: leave it out, "
                "or take hals"
            )
        return self


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
        from recserver.algorithms.nmf_choice import choose

        return choose(interactions, self.used(hyperparameters), surroundings)

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: Surroundings
    ) -> Factors:
        from recserver.algorithms.matrices import lowered
        from recserver.algorithms.nmf_fit import factors_of, fit_neighbors, fold_in_of, start_of, to_fit

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
