"""Algorithm selection: several algorithms are compared on a hold-out, within a time budget."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from recserver._internal.algorithms.auto.params import CANDIDATES, AutoParams, initial_hyperparameters
from recserver._internal.algorithms.base import BaseAlgorithm
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import FitContext, FittedModel, HyperParams
from recserver._internal.core.errors import InvalidInput


class Auto(BaseAlgorithm[AutoParams]):
    """Fits exactly the model that the selected algorithm fits with the selected hyperparameters."""

    model_type = "auto"
    model_class = "AutoRecommendationModel"
    params = AutoParams
    description = "The best of several algorithms on a hold-out of the data, within a time budget."
    use_case = "If it is unknown which algorithm suits the data, or the data will change."

    def check(
        self, hyperparameters: HyperParams, *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        checked, warnings = super().check(hyperparameters, ignore=ignore)
        if (nested := checked.get("hyperparameters")) is None:
            return checked, warnings
        if (name := checked.get("algorithm")) is None:
            field = "hyperparameters", "hyperparameters"
            raise InvalidInput.of(field, "needs algorithm: they are the hyperparameters of one algorithm")
        nested, more = load_algorithm(name).check(nested, ignore=nested if ignore else ())
        return {**checked, "hyperparameters": nested}, [*warnings, *more]

    def tune(
        self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext
    ) -> dict[str, Any]:
        params = self.resolve(hyperparameters)
        if params.algorithm is not None:
            return {}
        from recserver._internal.algorithms.auto.search import select_algorithm

        return select_algorithm(interactions, params, context)

    def fit(self, interactions: Interactions, hyperparameters: HyperParams, context: FitContext) -> FittedModel:
        params = self.resolve(hyperparameters)
        name, warnings = params.algorithm, list(params.notes or ())
        if name is None:
            name = params.algorithms[0]
            warnings.append(f"{name} was fitted, the first of algorithms: there are too few data to compare them.")
        algorithm = load_algorithm(name)
        nested = algorithm.check(params.hyperparameters or {})[0]
        model = algorithm.fit(interactions, {**initial_hyperparameters(name, params), **nested}, context)
        used = params.model_dump(exclude_none=True, mode="json")
        return replace(
            model,
            hyperparameters={**used, "algorithm": name, "hyperparameters": model.hyperparameters},
            metrics={**model.metrics, "chosen_algorithm": name},
            warnings=(*warnings, *model.warnings),
        )


auto = Auto(algorithms=CANDIDATES, time_budget=120.0)
