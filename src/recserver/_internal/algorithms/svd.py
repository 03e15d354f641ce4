"""Truncated singular value decomposition of interactions (PureSVD: Cremonesi, Koren and Turrin 2010)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recserver._internal.algorithms.base import BaseAlgorithm, Feedback, Params, RandomState, Real
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.protocol import FitContext, FittedModel, HyperParams
from recserver._internal.core.errors import TrainingFailed
from recserver._internal.core.validation.values import WholeNumber

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from sklearn.decomposition import TruncatedSVD


class SVDParams(Params):
    """Hyperparameters of the svd family."""

    n_components: Annotated[WholeNumber, Field(ge=1, le=1000)] = 32
    algorithm: Literal["randomized", "arpack"] = "randomized"
    n_iter: Annotated[WholeNumber, Field(ge=1, le=100)] = 5
    tol: Annotated[Real, Field(ge=0, le=1)] = 0.0
    random_state: RandomState = 42
    weighting: Literal["degree", "none"] = "degree"
    feedback: Feedback = "auto"


class SVD(BaseAlgorithm[SVDParams]):
    """The svd family; names differ by their defaults."""

    model_type = "svd"
    model_class = "SVDRecommendationModel"
    params = SVDParams

    def fit(self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext) -> FittedModel:
        from sklearn.decomposition import TruncatedSVD
        from threadpoolctl import threadpool_limits

        from recserver._internal.algorithms.preprocessing import clamp_rank, input_matrices

        params, warnings = self.resolve(hyperparameters), list[str]()
        margin = 1 if params.algorithm == "arpack" else 0  # arpack cannot compute all singular values
        params = clamp_rank(params, interactions, warnings, margin)
        inputs = input_matrices(interactions, warnings, params.feedback, params.weighting)
        algorithm = params.algorithm if min(inputs.normalised.shape) > margin else "randomized"
        model = TruncatedSVD(
            params.n_components,
            algorithm=algorithm,
            n_iter=params.n_iter,
            tol=params.tol,
            random_state=params.random_state,
        )
        with (
            threadpool_limits(1, user_api="blas"),  # more would round differently, and take longer
            np.errstate(invalid="ignore", divide="ignore"),
        ):
            users = _fit_users(model, inputs.normalised)
        explained = float(np.nan_to_num(model.explained_variance_ratio_, posinf=0.0).sum(dtype=np.float64))
        explained = explained if explained < 1.01 else 0.0  # nearly zero variance makes the ratio meaningless
        components = np.ascontiguousarray(model.components_.T[: len(interactions.items)], np.float32)
        return FittedModel(
            users=np.ascontiguousarray(users, np.float32),
            items=components * inputs.item_scale[:, None],
            hyperparameters=params.model_dump(),
            metrics={"n_components": params.n_components, "explained_variance_ratio": explained},
            warnings=tuple(warnings),
            fold_in=inputs.fold_in(components),
            confidences=inputs.confidences.data,
        )


def _fit_users(model: TruncatedSVD, matrix: csr_array) -> NDArray[np.float32]:
    """The users' factors. scikit-learn rejects a single column, so an empty second one is added.

    Raises:
        TrainingFailed: if the numbers' squares are out of the range of float32.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import ArpackError

    shape = matrix.shape[0], max(2, matrix.shape[1])
    try:
        users: NDArray[np.float32] = model.fit_transform(
            csr_array((matrix.data, matrix.indices, matrix.indptr), shape=shape)
        )
    except (ValueError, ArpackError):
        raise TrainingFailed(
            "The raw ratings are too large or too small to be factorised: use feedback weighted or implicit, or "
            "check which column is the rating."
        ) from None
    return users


svd = SVD(
    "Truncated singular value decomposition of interactions normalised by degree (PureSVD).",
    "Small models within seconds, for data with few kinds of taste.",
    n_components=32, algorithm="randomized", n_iter=5,
)  # fmt: skip
svd_fast = SVD(
    "svd with half as many factors.",
    "The quickest model with factors.",
    n_components=16, algorithm="randomized", n_iter=3,
)  # fmt: skip
svd_accurate = SVD(
    "svd with twice as many factors, computed exactly.",
    "Large data with many kinds of taste.",
    n_components=64, algorithm="arpack",
)  # fmt: skip
