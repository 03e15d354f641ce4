"""The hyperparameters of the nmf family."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from recserver._internal.algorithms.base import Feedback, Params, RandomState, Real
from recserver._internal.core.validation.values import WholeNumber

DEFAULT_REGULARIZATION, DEFAULT_BLEND = 0.09, 0.7
"""Used if they are not set and the data are too few to tune them."""


def _auto_to_none(value: object) -> object:
    return None if value == "auto" else value


Auto = BeforeValidator(_auto_to_none)


class NMFParams(Params):
    """Hyperparameters of the nmf family."""

    n_components: Annotated[WholeNumber, Field(ge=1, le=1000)] = 128
    solver: Literal["hals", "cd", "mu"] = "hals"
    max_iter: Annotated[WholeNumber, Field(ge=1, le=10_000)] = 200
    random_state: RandomState = 42
    alpha: Annotated[Real, Field(ge=0, le=10)] = 0.0
    l1_ratio: Annotated[Real, Field(ge=0, le=1)] = 0.0
    tol: Annotated[Real, Field(ge=0, le=1)] = 1e-4
    init: Literal["random", "nndsvd", "nndsvda", "nndsvdar"] = "random"
    beta_loss: Literal["frobenius"] = "frobenius"
    weighting: Literal["degree", "none"] = "degree"
    feedback: Feedback = "auto"
    regularization: Annotated[Real | None, Field(ge=0, le=10), Auto] = None
    neighbors: Annotated[WholeNumber, Field(ge=0, le=1000)] = 100
    blend: Annotated[Real | None, Field(ge=0, le=1), Auto] = None
    warm_starts: Annotated[WholeNumber, Field(ge=0, le=1000)] = 10

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.solver != "hals" and self.regularization and self.alpha and self.l1_ratio:
            raise ValueError(
                f"regularization cannot be added to alpha and l1_ratio with solver {self.solver}: leave it out, "
                "or use hals"
            )
        return self
