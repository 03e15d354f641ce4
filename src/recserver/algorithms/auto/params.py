"""The hyperparameters of ``auto``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from recserver.algorithms.base import Params, RandomState, Real
from recserver.algorithms.builtin import BUILTIN_ALGORITHMS, builtin_algorithm
from recserver.core.errors import quoted

CANDIDATES = ["nmf", "als", "ease", "item_knn", "svd"]


def _check_candidate(name: str) -> str:
    if name == "auto" or name not in BUILTIN_ALGORITHMS:
        known = ", ".join(one for one in BUILTIN_ALGORITHMS if one != "auto")
        raise ValueError(f"{quoted(name)} cannot be chosen: take some of {known}")
    return name


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


Candidate = Annotated[str, AfterValidator(_check_candidate)]


class AutoParams(Params):
    """Hyperparameters of auto. The last four are chosen where they are not given."""

    algorithms: Annotated[list[Candidate], Field(min_length=1), AfterValidator(_unique)] = CANDIDATES
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


def initial_hyperparameters(name: str, params: AutoParams) -> dict[str, Any]:
    """The hyperparameters that one of the candidates begins with."""
    method = builtin_algorithm(name)
    random = method.check({"random_state": params.random_state}, ignore=["random_state"])[0]
    return {**method.default_params, **random}
