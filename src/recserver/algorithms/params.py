"""Hyperparameters as pydantic models: a typo is an error, and every error names what is allowed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from recserver.errors import FieldError, InvalidInput, shown
from recserver.specs.reports import field_errors, in_words

ALWAYS_IGNORED = frozenset({"batch_size"})
"""Accepted with a warning, whatever the algorithm: older clients send it."""


class Params(BaseModel):
    """Base of every algorithm's hyperparameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def check_params(
    params: type[Params], given: Mapping[str, Any], ignore: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The given names and values in their proper types, and a warning for each one that is passed over.

    Raises:
        InvalidInput: naming every wrong one and what is allowed.
    """
    passed_over = [
        name for name in given if name not in params.model_fields and name in {*ALWAYS_IGNORED, *ignore}
    ]
    kept = {name: value for name, value in given.items() if name not in passed_over}
    try:
        checked = params.model_validate(kept)
    except ValidationError as error:
        problems = [_with_known_names(one, params) for one in field_errors(error, "hyperparameters")]
        raise InvalidInput("; ".join(in_words(one) for one in problems) + ".", problems) from None
    warnings = [f"The hyperparameter {shown(name)} is not used and was ignored." for name in passed_over]
    return checked.model_dump(include=set(kept)), warnings


def _with_known_names(problem: FieldError, params: type[Params]) -> FieldError:
    if problem.msg != "is not known here":
        return problem
    return FieldError(problem.loc, f"is no hyperparameter here; known are {', '.join(params.model_fields)}")
