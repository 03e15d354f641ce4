"""The base class of algorithms, and hyperparameters as pydantic models whose errors name what is allowed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from recserver._internal.algorithms.protocol import Algorithm, HyperParams
from recserver._internal.core.errors import FieldError, InvalidInput, quoted
from recserver._internal.core.validation.messages import field_errors
from recserver._internal.core.validation.values import WholeNumber, real_number

IGNORED_PARAMS = frozenset({"batch_size"})
"""Ignored with a warning by every algorithm, because older clients send them."""

Real = Annotated[float, BeforeValidator(real_number)]
Feedback = Literal["auto", "implicit", "weighted"]
"""How ratings become weights; see :func:`preprocessing.input_matrices`."""
RandomState = Annotated[WholeNumber, Field(ge=0, le=4_294_967_295)]


class Params(BaseModel):
    """Base class of an algorithm's hyperparameters."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


ParamsT = TypeVar("ParamsT", bound=Params)


class BaseAlgorithm(Algorithm, Generic[ParamsT]):
    """An algorithm whose hyperparameters are one pydantic model, without tuning and warm starts.

    A subclass defines ``model_type``, ``model_class``, ``params`` and ``fit``.

    Args:
        description: what it is, in a sentence; by default that of the class.
        use_case: when to use it, in a sentence; by default that of the class.
        default_params: hyperparameters in the config of every new model.
    """

    params: type[ParamsT]
    description: str = ""
    use_case: str = ""

    def __init__(self, description: str = "", use_case: str = "", /, **default_params: Any) -> None:
        self.description: str = description or self.description
        self.use_case: str = use_case or self.use_case
        self.default_params = default_params

    def check(
        self, hyperparameters: HyperParams, *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        ignorable = {*IGNORED_PARAMS, *ignore} - self.params.model_fields.keys()
        used = {name: value for name, value in hyperparameters.items() if name not in ignorable}
        try:
            checked = self.params.model_validate(used)
        except ValidationError as error:
            problems = [_name_known_params(one, self.params) for one in field_errors(error, "hyperparameters")]
            raise InvalidInput.of_fields(problems) from None
        ignored = [name for name in hyperparameters if name in ignorable]
        warnings = [f"The hyperparameter {quoted(name)} is not used and was ignored." for name in ignored]
        return checked.model_dump(include=set(used)), warnings

    def resolve(self, hyperparameters: HyperParams) -> ParamsT:
        """All hyperparameters: the given ones, and this algorithm's defaults for the others."""
        return self.params(**{**self.default_params, **hyperparameters})


def _name_known_params(problem: FieldError, params: type[Params]) -> FieldError:
    if problem.msg != "is not known here":
        return problem
    known = f"known are {', '.join(params.model_fields)}" if params.model_fields else "there are none"
    return FieldError(problem.loc, f"is not a hyperparameter of this algorithm; {known}")
