"""What the chefs share: reading an entry, and handing over columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from recserver.errors import FieldError, InvalidInput, SourceFailed, shown
from recserver.specs.reports import field_errors, in_words
from recserver.specs.rows import RowRules
from recserver.specs.secrets import REFERENCE, missing_variables

_PORT_REFERENCE = re.compile(rf"(?<=:){REFERENCE.pattern}(?=[/?]|$)")


class ChefEntry(RowRules):
    """What every entry of ``restaurant_data.yaml`` may hold. Keys unknown to a chef are left alone."""


EntryT = TypeVar("EntryT", bound=ChefEntry)


def read_entry(model: type[EntryT], entry: Mapping[str, Any]) -> EntryT:
    """``entry`` as ``model``; null counts as absent.

    Raises:
        InvalidInput: naming every field that is missing or wrong.
    """
    try:
        return model.model_validate({key: value for key, value in entry.items() if value is not None})
    except ValidationError as error:
        problems = field_errors(error)
        raise InvalidInput(f"{in_words(problems[0])}.", problems) from None


def refused(field: str, problem: object) -> InvalidInput:
    """The error that says what is wrong with one field."""
    return InvalidInput(f"{field}: {problem}.", [FieldError((field,), str(problem))])


def has_reference(text: str) -> bool:
    """Whether ``text`` holds a ``${NAME}``, so that only the worker knows what it says."""
    return REFERENCE.search(text) is not None


def probe(text: str) -> str:
    """``text`` with something harmless in the place of each variable, to check the rest of it."""
    return REFERENCE.sub("x", _PORT_REFERENCE.sub("1", text))


def variable_warnings(entry: Mapping[str, Any]) -> list[str]:
    """A sentence for each environment variable that the entry needs and that is not set."""
    return [f"The environment variable {name} is not set." for name in missing_variables(entry)]


def positions(header: Sequence[str], wanted: Collection[str], source: str, cure: str) -> dict[str, int]:
    """Where the wanted columns stand in ``header``; those it lacks are left out.

    Raises:
        SourceFailed: if a wanted name occurs twice, for nobody knows which one is meant.
    """
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        if name not in wanted:
            continue
        if name in places:
            raise SourceFailed(f"{source} has two columns named {shown(name)}: {cure}.")
        places[name] = place
    return places


def object_column(values: Sequence[Any]) -> NDArray[Any]:
    """``values`` as an array of shape (len(values),) that holds each as it is, lists included."""
    return np.fromiter(values, dtype=object, count=len(values))
