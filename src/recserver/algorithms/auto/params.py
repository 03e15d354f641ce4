"""The hyperparameters of ``auto``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from recserver.algorithms.base import Params, RandomState, Real
from recserver.algorithms.builtin import OURS, ours
from recserver.core.errors import shown

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


def given_to(name: str, params: AutoParams) -> dict[str, Any]:
    """The hyperparameters that one of the candidates begins with."""
    method = ours(name)
    random = method.check({"random_state": params.random_state}, ignore=["random_state"])[0]
    return {**method.default_params, **random}
