"""Items that the same people take: the cosine of each item with its nearest ones (Deshpande and Karypis 2004)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from recserver.algorithms.base import BaseAlgorithm, Feedback, Params, Real
from recserver.algorithms.fold_in import FoldIn
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.protocol import FitContext, FittedModel
from recserver.core.validation.values import WholeNumber


class ItemKNNParams(Params):
    """Hyperparameters of item_knn."""

    neighbors: Annotated[WholeNumber, Field(ge=1, le=1000)] = 100
    shrinkage: Annotated[Real, Field(ge=0, le=1e6)] = 10.0
    feedback: Feedback = "auto"


class ItemKNN(BaseAlgorithm[ItemKNNParams]):
    """Item-item likeness, with no factors."""

    model_type = "item_knn"
    model_class = "ItemKNNRecommendationModel"
    params = ItemKNNParams

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        """Weights are ``z_i . z_j / (|z_i| |z_j| + shrinkage)``: few common users prove little."""
        from recserver.algorithms.item_weights import ItemColumns, as_neighbors, nearest_items, sparse_rows
        from recserver.algorithms.preprocessing import weight_matrix

        params, notes = self.resolve(hyperparameters), list[str]()
        worth, rule = weight_matrix(interactions, notes, params.feedback)
        found = nearest_items(ItemColumns.of(worth), params.neighbors, context.threads, params.shrinkage)
        neighbors = as_neighbors(sparse_rows(*found), worth.data)
        fold_in = FoldIn.without_factors(rule, len(interactions.items))
        return FittedModel.from_neighbors(neighbors, len(interactions.users), params.model_dump(), notes, fold_in)


item_knn = ItemKNN(neighbors=100)
