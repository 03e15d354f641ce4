"""Whichever of several algorithms suits the data: compared on a hold-out, within a budget of time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from recserver.algorithms.auto.params import CANDIDATES, AutoParams, given_to
from recserver.algorithms.base import BaseAlgorithm
from recserver.algorithms.builtin import ours
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.protocol import Factors, Surroundings
from recserver.core.errors import FieldError, InvalidInput


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
            message = "needs algorithm: hyperparameters are those of one"
            raise InvalidInput(
                f"hyperparameters.hyperparameters: {message}.",
                [FieldError(("hyperparameters", "hyperparameters"), message)],
            )
        allowed, more = ours(name).check(own, ignore=own if ignore else ())
        return {**checked, "hyperparameters": allowed}, [*warnings, *more]

    def choose(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: Surroundings
    ) -> dict[str, Any]:
        params = self.used(hyperparameters)
        if params.algorithm is not None:
            return {}
        from recserver.algorithms.auto.search import choose

        return choose(interactions, params, surroundings)

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: Surroundings
    ) -> Factors:
        params = self.used(hyperparameters)
        name, notes = params.algorithm, list(params.notes or ())
        if name is None:
            name = params.algorithms[0]
            notes.append(f"{name} was fitted, the first of algorithms: the data are too few to compare any.")
        method = ours(name)
        own = method.check(params.hyperparameters or {})[0]
        factors = method.fit(interactions, {**given_to(name, params), **own}, surroundings)
        used = params.model_dump(exclude_none=True, mode="json")
        return replace(
            factors,
            hyperparameters={**used, "algorithm": name, "hyperparameters": factors.hyperparameters},
            metrics={**factors.metrics, "chosen_algorithm": name},
            warnings=(*notes, *factors.warnings),
        )


auto = Auto(algorithms=CANDIDATES, time_budget=120.0)
