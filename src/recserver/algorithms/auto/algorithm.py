"""Whichever of several algorithms suits the data: compared on a hold-out, within a budget of time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from recserver.algorithms.auto.params import CANDIDATES, AutoParams, initial_hyperparameters
from recserver.algorithms.base import BaseAlgorithm
from recserver.algorithms.builtin import builtin_algorithm
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.protocol import FitContext, FittedModel
from recserver.core.errors import InvalidInput


class Auto(BaseAlgorithm[AutoParams]):
    """It fits exactly what the chosen algorithm would fit with the chosen hyperparameters."""

    model_type = "auto"
    model_class = "AutoRecommendationModel"
    params = AutoParams

    def check(
        self, hyperparameters: Mapping[str, Any], *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        checked, warnings = super().check(hyperparameters, ignore=ignore)
        if (own := checked.get("hyperparameters")) is None:
            return checked, warnings
        if (name := checked.get("algorithm")) is None:
            field = "hyperparameters", "hyperparameters"
            raise InvalidInput.of(field, "needs algorithm: hyperparameters are those of one")
        allowed, more = builtin_algorithm(name).check(own, ignore=own if ignore else ())
        return {**checked, "hyperparameters": allowed}, [*warnings, *more]

    def tune(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> dict[str, Any]:
        params = self.resolve(hyperparameters)
        if params.algorithm is not None:
            return {}
        from recserver.algorithms.auto.search import select_algorithm

        return select_algorithm(interactions, params, context)

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        params = self.resolve(hyperparameters)
        name, notes = params.algorithm, list(params.notes or ())
        if name is None:
            name = params.algorithms[0]
            notes.append(f"{name} was fitted, the first of algorithms: the data are too few to compare any.")
        method = builtin_algorithm(name)
        own = method.check(params.hyperparameters or {})[0]
        factors = method.fit(interactions, {**initial_hyperparameters(name, params), **own}, context)
        used = params.model_dump(exclude_none=True, mode="json")
        return replace(
            factors,
            hyperparameters={**used, "algorithm": name, "hyperparameters": factors.hyperparameters},
            metrics={**factors.metrics, "chosen_algorithm": name},
            warnings=(*notes, *factors.warnings),
        )


auto = Auto(algorithms=CANDIDATES, time_budget=120.0)
