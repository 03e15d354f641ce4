"""Item-based nearest neighbours by cosine similarity (Deshpande and Karypis 2004)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recserver._internal.algorithms.base import BaseAlgorithm, Feedback, Params, Real
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.protocol import FitContext, FittedModel, HyperParams
from recserver._internal.core.validation.values import WholeNumber


class ItemKNNParams(Params):
    """Hyperparameters of item_knn."""

    neighbors: Annotated[WholeNumber, Field(ge=1, le=1000)] = 100
    shrinkage: Annotated[Real, Field(ge=0, le=1e6)] = 10.0
    feedback: Feedback = "auto"


class ItemKNN(BaseAlgorithm[ItemKNNParams]):
    """Item-item similarities, without factors."""

    model_type = "item_knn"
    model_class = "ItemKNNRecommendationModel"
    params = ItemKNNParams
    description = "The cosine similarity of each item to its nearest neighbours."
    use_case = "A quick and strong baseline: users who chose this also chose that."

    def fit(self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext) -> FittedModel:
        """Weights are ``z_i . z_j / (|z_i| |z_j| + shrinkage)``: the shrinkage discounts few common users."""
        from recserver._internal.algorithms.nearest_items import ItemColumns, nearest_items
        from recserver._internal.algorithms.preprocessing import weight_matrix
        from recserver._internal.algorithms.slim import as_neighbors, sparse_rows

        params, warnings = self.resolve(hyperparameters), list[str]()
        matrix, weighting = weight_matrix(interactions, warnings, params.feedback)
        nearest = nearest_items(ItemColumns.of(matrix), params.neighbors, context.threads, params.shrinkage)
        neighbors = as_neighbors(sparse_rows(*nearest), matrix.data)
        return FittedModel.from_neighbors(neighbors, interactions, params.model_dump(), warnings, weighting)


item_knn = ItemKNN(neighbors=100)
