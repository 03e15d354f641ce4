"""The most popular items for everybody: the baseline that others have to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recserver.algorithms.base import BaseAlgorithm, Params
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.protocol import FitContext, FittedModel


class PopularParams(Params):
    """There are none."""


class Popular(BaseAlgorithm[PopularParams]):
    """One factor: the share of users who took an item."""

    model_type = "popular"
    model_class = "PopularRecommendationModel"
    params = PopularParams

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        self.resolve(hyperparameters)
        users = np.ones((len(interactions.users), 1), np.float32)
        shares = interactions.item_counts() / len(interactions.users)
        return FittedModel(users, shares.astype(np.float32)[:, None], {}, {"n_components": 1})


popular = Popular()
