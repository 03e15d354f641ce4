"""Truncated singular value decomposition of interactions (PureSVD: Cremonesi, Koren and Turrin 2010)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from recserver.algorithms import Factors, Surroundings
from recserver.algorithms.params import BaseAlgorithm, Params, RandomState, Real
from recserver.interactions import Interactions
from recserver.specs.values import WholeNumber

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class SVDParams(Params):
    """Hyperparameters of the svd family."""

    n_components: Annotated[WholeNumber, Field(ge=1, le=1000)] = 32
    algorithm: Literal["randomized", "arpack"] = "randomized"
    n_iter: Annotated[WholeNumber, Field(ge=1, le=100)] = 5
    tol: Annotated[Real, Field(ge=0, le=1)] = 0.0
    random_state: RandomState = 42
    weighting: Literal["degree", "none"] = "degree"
    feedback: Literal["auto", "implicit", "weighted"] = "auto"


class SVD(BaseAlgorithm[SVDParams]):
    """The svd family; names differ by their defaults."""

    model_type = "svd"
    model_class = "SVDRecommendationModel"
    params = SVDParams

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: Surroundings
    ) -> Factors:
        from sklearn.decomposition import TruncatedSVD
        from threadpoolctl import threadpool_limits

        from recserver.algorithms.matrices import EXPONENT, lowered, matrices

        params, notes = self.used(hyperparameters), list[str]()
        least = 1 if params.algorithm == "arpack" else 0  # arpack finds fewer than there are
        params = lowered(params, interactions, notes, fewer=least)
        exponent = EXPONENT if params.weighting == "degree" else 0.0
        found = matrices(interactions, notes, feedback=params.feedback, exponent=exponent)
        algorithm = params.algorithm if min(found.factored.shape) > least else "randomized"
        model = TruncatedSVD(
            params.n_components,
            algorithm=algorithm,
            n_iter=params.n_iter,
            tol=params.tol,
            random_state=params.random_state,
        )
        with (
            threadpool_limits(1, user_api="blas"),  # more would round otherwise, and take longer
            np.errstate(invalid="ignore", divide="ignore"),
        ):
            users = model.fit_transform(_at_least_two_columns(found.factored))
        explained = float(np.nan_to_num(model.explained_variance_ratio_).sum())
        return Factors(
            users=np.ascontiguousarray(users, np.float32),
            items=np.ascontiguousarray(
                model.components_.T[: len(interactions.items)] * found.item_scale[:, None], np.float32
            ),
            hyperparameters=params.model_dump(),
            metrics={"n_components": params.n_components, "explained_variance_ratio": explained},
            warnings=tuple(notes),
        )


def _at_least_two_columns(matrix: csr_array) -> csr_array:
    """scikit-learn refuses a single one: an empty one beside it changes nothing."""
    from scipy.sparse import csr_array

    if matrix.shape[1] > 1:
        return matrix
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], 2))


svd = SVD(n_components=32, algorithm="randomized", n_iter=5)
svd_fast = SVD(n_components=16, algorithm="randomized", n_iter=3)
svd_accurate = SVD(n_components=64, algorithm="arpack")
