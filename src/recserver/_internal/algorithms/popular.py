"""The most popular items for all users: the baseline of every comparison."""

from __future__ import annotations

import numpy as np

from recserver._internal.algorithms.base import BaseAlgorithm, Params
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.protocol import FitContext, FittedModel, HyperParams


class PopularParams(Params):
    """popular has no hyperparameters."""


class Popular(BaseAlgorithm[PopularParams]):
    """One factor: the share of users who interacted with an item."""

    model_type = "popular"
    model_class = "PopularRecommendationModel"
    params = PopularParams
    description = "The most popular items, the same for all users."
    use_case = "The baseline that other algorithms have to beat, and data too small for any of them."

    def fit(self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext) -> FittedModel:
        self.resolve(hyperparameters)
        users = np.ones((len(interactions.users), 1), np.float32)
        shares = interactions.item_counts() / len(interactions.users)
        return FittedModel(users, shares.astype(np.float32)[:, None], {}, {"n_components": 1})


popular = Popular()
