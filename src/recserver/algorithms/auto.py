"""Whichever of several algorithms suits the data: compared on a hold-out, within a budget of time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from recserver.algorithms import Factors, Surroundings
from recserver.algorithms.ours import OURS, ours
from recserver.algorithms.params import BaseAlgorithm, Params, RandomState, Real
from recserver.errors import FieldError, InvalidInput, shown
from recserver.interactions import Interactions

CANDIDATES = ["nmf", "als", "ease", "item_knn", "svd"]


def _candidate(name: str) -> str:
    if name == "auto" or name not in OURS:
        known = ", ".join(one for one in OURS if one != "auto")
        raise ValueError(f"{shown(name)} cannot be chosen: take some of {known}")
    return name


def _distinct(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


Candidate = Annotated[str, AfterValidator(_candidate)]


class AutoParams(Params):
    """Hyperparameters of auto. The last four are chosen where they are not given."""

    algorithms: Annotated[list[Candidate], Field(min_length=1), AfterValidator(_distinct)] = CANDIDATES
    time_budget: Annotated[Real, Field(gt=0, le=1e6)] = 120.0
    random_state: RandomState = 42
    algorithm: Candidate | None = None
    """The one that is fitted."""
    hyperparameters: dict[str, Any] | None = None
    """Its own; those that are not given are its defaults."""
    compared: dict[str, float] | None = None
    """The ndcg_at_10 of those that were compared."""
    notes: list[str] | None = None
    """A sentence for everything that was not compared as asked."""


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
        from recserver.algorithms.auto_choice import choose

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


def given_to(name: str, params: AutoParams) -> dict[str, Any]:
    """The hyperparameters that one of the candidates begins with."""
    method = ours(name)
    random = method.check({"random_state": params.random_state}, ignore=["random_state"])[0]
    return {**method.default_params, **random}


auto = Auto(algorithms=CANDIDATES, time_budget=120.0)
