"""Hyperparameters as pydantic models: a typo is an error, and every error names what is allowed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from recserver.algorithms.interactions import Interactions
from recserver.algorithms.protocol import FitContext
from recserver.core.errors import FieldError, InvalidInput, quoted
from recserver.core.validation.messages import field_errors
from recserver.core.validation.values import WholeNumber, real_number

IGNORED_PARAMS = frozenset({"batch_size"})
"""Accepted with a warning, whatever the algorithm: older clients send it."""


Real = Annotated[float, BeforeValidator(real_number)]
Feedback = Literal["auto", "implicit", "weighted"]
"""What a pair is worth; see ``matrices``."""
RandomState = Annotated[WholeNumber, Field(ge=0, le=4_294_967_295)]


class Params(BaseModel):
    """Base of every algorithm's hyperparameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ParamsT = TypeVar("ParamsT", bound=Params)


class BaseAlgorithm(Generic[ParamsT]):
    """What most algorithms have in common: hyperparameters of one pydantic model, none of them left to the data,
    no warm starts.

    A subclass says ``model_type``, ``model_class``, ``params`` and how to ``fit``.
    """

    params: type[ParamsT]

    def __init__(self, **default_params: Any) -> None:
        self.default_params = default_params

    def check(
        self, hyperparameters: Mapping[str, Any], *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        return check_params(self.params, hyperparameters, ignore)

    def resolve(self, hyperparameters: Mapping[str, Any]) -> ParamsT:
        """All hyperparameters: the given ones, else this algorithm's defaults."""
        return self.params(**{**self.default_params, **hyperparameters})

    def max_warm_starts(self, hyperparameters: Mapping[str, Any]) -> int:
        return 0

    def tune(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> dict[str, Any]:
        return {}


def check_params(
    params: type[Params], given: Mapping[str, Any], ignore: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The given names and values in their proper types, and a warning for each one that is passed over.

    Raises:
        InvalidInput: naming every wrong one and what is allowed.
    """
    passed_over = [
        name for name in given if name not in params.model_fields and name in {*IGNORED_PARAMS, *ignore}
    ]
    kept = {name: value for name, value in given.items() if name not in passed_over}
    try:
        checked = params.model_validate(kept)
    except ValidationError as error:
        problems = [_name_known_params(one, params) for one in field_errors(error, "hyperparameters")]
        raise InvalidInput.of_fields(problems) from None
    warnings = [f"The hyperparameter {quoted(name)} is not used and was ignored." for name in passed_over]
    return checked.model_dump(include=set(kept)), warnings


def _name_known_params(problem: FieldError, params: type[Params]) -> FieldError:
    if problem.msg != "is not known here":
        return problem
    known = f"known are {', '.join(params.model_fields)}" if params.model_fields else "there are none"
    return FieldError(problem.loc, f"is no hyperparameter here; {known}")
