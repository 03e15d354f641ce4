"""The hyperparameters of ``auto``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from recserver._internal.algorithms.base import Params, RandomState, Real
from recserver._internal.algorithms.lookup import ALGORITHM_PATHS, load_algorithm
from recserver._internal.core.errors import quoted

CANDIDATES = ["nmf", "als", "ease", "item_knn", "svd"]


def _check_candidate(name: str) -> str:
    candidates = [candidate for candidate in ALGORITHM_PATHS if candidate != "auto"]
    if name not in candidates:
        raise ValueError(f"{quoted(name)} is not a candidate: use some of {', '.join(candidates)}")
    return name


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


Candidate = Annotated[str, AfterValidator(_check_candidate)]


class AutoParams(Params):
    """Hyperparameters of auto. The last four are tuned unless ``algorithm`` is set."""

    algorithms: Annotated[list[Candidate], Field(min_length=1), AfterValidator(_unique)] = CANDIDATES
    time_budget: Annotated[Real, Field(gt=0, le=1e6)] = 120.0
    random_state: RandomState = 42
    algorithm: Candidate | None = None
    """The algorithm that is fitted."""
    hyperparameters: dict[str, Any] | None = None
    """Its hyperparameters; by default its own defaults."""
    compared: dict[str, float] | None = None
    """The ndcg_at_10 of each algorithm that was compared."""
    notes: list[str] | None = None
    """A sentence for each algorithm that could not be compared."""


def initial_hyperparameters(name: str, params: AutoParams) -> dict[str, Any]:
    """The hyperparameters of a candidate before tuning: its defaults, and the random state if it has one."""
    algorithm = load_algorithm(name)
    random_state = algorithm.check({"random_state": params.random_state}, ignore=["random_state"])[0]
    return {**algorithm.default_params, **random_state}
