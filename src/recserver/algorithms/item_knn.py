"""Items that the same people take: the cosine of each item with its nearest ones (Deshpande and Karypis 2004)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from recserver.algorithms import Factors, Surroundings
from recserver.algorithms.params import BaseAlgorithm, Params, Real
from recserver.interactions import Interactions
from recserver.neighbors import Neighbors
from recserver.specs.values import WholeNumber


class ItemKNNParams(Params):
    """Hyperparameters of item_knn."""

    neighbors: Annotated[WholeNumber, Field(ge=1, le=1000)] = 100
    shrinkage: Annotated[Real, Field(ge=0, le=1e6)] = 10.0
    feedback: Literal["auto", "implicit", "weighted"] = "auto"


class ItemKNN(BaseAlgorithm[ItemKNNParams]):
    """Item-item likeness, with no factors."""

    model_type = "item_knn"
    model_class = "ItemKNNRecommendationModel"
    params = ItemKNNParams

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: Surroundings
    ) -> Factors:
        """Weights are ``z_i . z_j / (|z_i| |z_j| + shrinkage)``: few common users prove little."""
        from scipy.sparse import csr_array

        from recserver.algorithms.item_weights import Columns, nearest
        from recserver.algorithms.matrices import pair_worth

        params, notes = self.used(hyperparameters), list[str]()
        worth = pair_worth(interactions, notes, params.feedback)
        n_items = len(interactions.items)
        shape = len(interactions.users), n_items
        columns = Columns.of(csr_array((worth, interactions.indices, interactions.indptr), shape=shape))
        neighbors, products = nearest(columns, params.neighbors, surroundings.threads, params.shrinkage)
        kept = neighbors >= 0
        owners = np.repeat(np.arange(n_items), kept.sum(axis=1))
        weights = csr_array((products[kept], (neighbors[kept], owners)), shape=(n_items, n_items))
        weights.sort_indices()
        found = Neighbors(
            weights.indptr.astype(np.int64), weights.indices.astype(np.int32), weights.data, strengths=worth
        )
        return Factors.of_neighbors(found, len(interactions.users), params.model_dump(), notes)


item_knn = ItemKNN(neighbors=100)
