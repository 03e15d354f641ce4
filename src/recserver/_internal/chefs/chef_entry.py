"""Helpers for chefs: validation of entries, and columns of values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from recserver._internal.chefs.protocol import Column
from recserver._internal.chefs.row_rules import RowRules
from recserver._internal.chefs.secrets import REFERENCE, expand_environment, missing_variables
from recserver._internal.core.errors import InvalidInput, SourceFailed, quoted
from recserver._internal.core.validation.messages import field_errors

NOT_AN_OBJECT = "is not a JSON object"
"""Reason of a rejection."""

_PORT_REFERENCE = re.compile(rf"(?<=:){REFERENCE.pattern}(?=[/?]|$)")


class ChefEntry(RowRules):
    """The keys of any entry in ``restaurant_data.yaml``. Keys that a chef does not know are ignored."""


EntryT = TypeVar("EntryT", bound=ChefEntry)


def read_entry(model: type[EntryT], entry: Mapping[str, Any]) -> EntryT:
    """``entry`` as ``model``; null counts as absent.

    Raises:
        InvalidInput: naming every field that is missing or invalid.
    """
    try:
        return model.model_validate({key: value for key, value in entry.items() if value is not None})
    except ValidationError as error:
        problems = field_errors(error)
        raise InvalidInput(f"{problems[0]}.", problems) from None


def expand_entry(model: type[EntryT], entry: Mapping[str, Any]) -> EntryT:
    """``entry`` as ``model``, with its environment variables expanded, for reading its source.

    Raises:
        SourceFailed: if a variable is not set, or the expanded entry is invalid.
    """
    try:
        return read_entry(model, expand_environment(entry))
    except InvalidInput as error:
        raise SourceFailed(f"The data chef cannot be used: {error}") from None


def invalid_field(field: str | tuple[str, ...], problem: object) -> InvalidInput:
    """The error about one field of an entry: ``problem`` is a sentence without subject and full stop."""
    return InvalidInput.of(field, problem)


def has_reference(text: str) -> bool:
    """Whether ``text`` refers to an environment variable, ``${NAME}``. Only the worker replaces it."""
    return REFERENCE.search(text) is not None


def with_placeholders(text: str) -> str:
    """``text`` with a valid placeholder for each variable, so that the rest can be validated."""
    return REFERENCE.sub("x", _PORT_REFERENCE.sub("1", text))


def variable_warnings(entry: Mapping[str, Any]) -> list[str]:
    """A warning for each environment variable that the entry refers to and that is not set."""
    return [f"The environment variable {name} is not set." for name in missing_variables(entry)]


def column_indices(
    header: Sequence[str], requested: Collection[str] | None, source: str, hint: str
) -> dict[str, int]:
    """The index of each requested column in ``header``; missing columns are left out.

    Args:
        requested: names; None means all that are unique.
        source: name of the source in messages.
        hint: the remedy for a duplicate name, in messages.

    Raises:
        SourceFailed: if a requested name is not unique.
    """
    counts = Counter(header)
    if requested is None:
        requested = {name for name, count in counts.items() if name and count == 1}
    duplicate = next((name for name in header if name in requested and counts[name] > 1), None)
    if duplicate is not None:
        raise SourceFailed(f"{source} has two columns named {quoted(duplicate)}: {hint}.")
    return {name: index for index, name in enumerate(header) if name in requested}


def object_column(values: Sequence[Any]) -> NDArray[Any]:
    """``values`` as an object array of shape (len(values),); lists are not expanded."""
    return np.fromiter(values, dtype=object, count=len(values))


def to_column(values: Sequence[Any], *, from_json: bool = False) -> Column:
    """``values`` as an Arrow array if they have one type that Arrow represents exactly, else as an object array.

    Args:
        from_json: whether they were decoded from JSON; Arrow raises an error for mixtures of those types.
    """
    import pyarrow as pa

    types = set() if from_json else set(map(type, values)) - {type(None)}
    if len(types) > 1 and types != {int, float}:  # Arrow would convert str to bytes, and datetime to date
        return object_column(values)
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError):  # TypeError for NaN decimals
        return object_column(values)


def concat_columns(parts: Sequence[Column]) -> Column:
    """The concatenated parts of a column; an object array if their types differ, so that no value changes."""
    import pyarrow as pa

    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, pa.Array)]
    types = {array.type for array in arrays} - {pa.null()}
    if len(arrays) < len(parts) or len(types) > 1:
        return object_column(list(chain.from_iterable(part.tolist() for part in parts)))
    type_ = next(iter(types), pa.null())
    return pa.chunked_array([one.cast(type_) if pa.types.is_null(one.type) else one for one in arrays], type_)
