"""Non-negative matrix factorisation by scikit-learn, on the ratings as they are (a missing pair counts as 0).

Objective, with W = users and H = items (Lee and Seung 1999, 2001; Cichocki and Phan 2009 for ``cd``):
``1/2 |X - W H'|^2`` plus scikit-learn's elastic-net terms (``alpha_W``, ``alpha_H``, ``l1_ratio``).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from recserver.algorithms import Factors
from recserver.algorithms.params import Params, check_params
from recserver.errors import TrainingFailed
from recserver.interactions import Interactions
from recserver.specs.values import WholeNumber, real_number

Real = Annotated[float, BeforeValidator(real_number)]


class NMFParams(Params):
    """Hyperparameters of the nmf family."""

    n_components: Annotated[WholeNumber, Field(ge=1, le=1000)] = 32
    solver: Literal["mu", "cd"] = "mu"
    max_iter: Annotated[WholeNumber, Field(ge=1, le=10_000)] = 200
    random_state: Annotated[WholeNumber, Field(ge=0, le=4_294_967_295)] = 42
    alpha: Annotated[Real, Field(ge=0, le=10)] = 0.0
    l1_ratio: Annotated[Real, Field(ge=0, le=1)] = 0.0
    tol: Annotated[Real, Field(ge=0, le=1)] = 1e-4
    init: Literal["random", "nndsvd", "nndsvda", "nndsvdar"] = "random"
    beta_loss: Literal["frobenius"] = "frobenius"


class NMF:
    """The nmf family; names differ by their defaults."""

    model_type = "nmf"
    model_class = "NMFRecommendationModel"

    def __init__(self, **default_params: Any) -> None:
        self.default_params = default_params

    def check(
        self, hyperparameters: Mapping[str, Any], *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        return check_params(NMFParams, hyperparameters, ignore)

    def fit(self, interactions: Interactions, hyperparameters: Mapping[str, Any]) -> Factors:
        from scipy.sparse import csr_array
        from sklearn.decomposition import NMF as ScikitNMF
        from sklearn.exceptions import ConvergenceWarning

        notes: list[str] = []
        params = NMFParams(**{**self.default_params, **hyperparameters})
        users, items = len(interactions.users), len(interactions.items)
        rank = min(params.n_components, users, items)
        if rank < params.n_components:
            notes.append(
                f"n_components was lowered from {params.n_components} to {rank}: "
                f"{users} users and {items} items allow no more."
            )
        weights = _weights(interactions, notes)
        matrix = csr_array((weights, interactions.indices, interactions.indptr), shape=(users, items))
        model = ScikitNMF(
            n_components=rank,
            solver=params.solver,
            max_iter=params.max_iter,
            random_state=params.random_state,
            alpha_W=params.alpha,
            alpha_H="same",
            l1_ratio=params.l1_ratio,
            tol=params.tol,
            init=params.init,
            beta_loss=params.beta_loss,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # running out of max_iter is a choice
            warnings.filterwarnings("ignore", message="The multiplicative update .* zeros")
            user_factors = model.fit_transform(matrix)
        return Factors(
            users=np.ascontiguousarray(user_factors, np.float32),
            items=np.ascontiguousarray(model.components_.T, np.float32),
            hyperparameters=params.model_dump() | {"n_components": rank},
            metrics={
                "n_components": rank,
                "reconstruction_error": float(model.reconstruction_err_),
                "has_user_features": False,
                "has_item_features": False,
            },
            warnings=tuple(notes),
        )


def _weights(interactions: Interactions, notes: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    negative = int((interactions.ratings < 0).sum())
    if negative:
        notes.append(f"{negative} negative ratings count as 0: nmf knows no dislike.")
    weights = np.maximum(interactions.ratings, np.float32(0))
    if not weights.any():
        raise TrainingFailed(
            "Every rating is zero or negative, so there is nothing to learn from: check which column is the "
            "rating, or leave it out to count each interaction as 1."
        )
    return weights


nmf = NMF(n_components=32, solver="mu", max_iter=200)
nmf_fast = NMF(n_components=16, solver="cd", max_iter=100)
nmf_accurate = NMF(n_components=64, solver="mu", max_iter=500)
