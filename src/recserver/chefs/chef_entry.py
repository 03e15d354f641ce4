"""What the chefs share: validation of entries, and columns of values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from recserver.chefs.protocol import Column
from recserver.chefs.row_rules import RowRules
from recserver.chefs.secrets import REFERENCE, missing_variables
from recserver.core.errors import InvalidInput, SourceFailed, quoted
from recserver.core.validation.messages import field_errors

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


invalid_field = InvalidInput.of


def has_reference(text: str) -> bool:
    """Whether ``text`` contains a ``${NAME}``, which only the worker replaces."""
    return REFERENCE.search(text) is not None


def with_placeholders(text: str) -> str:
    """``text`` with a harmless value in place of each variable, so that the rest can be validated."""
    return REFERENCE.sub("x", _PORT_REFERENCE.sub("1", text))


def variable_warnings(entry: Mapping[str, Any]) -> list[str]:
    """A message for each environment variable that the entry needs and that is not set."""
    return [f"The environment variable {name} is not set." for name in missing_variables(entry)]


def column_indices(
    header: Sequence[str], wanted: Collection[str] | None, source: str, hint: str
) -> dict[str, int]:
    """The index of each wanted column in ``header``; missing columns are left out.

    Args:
        wanted: names; None means all that occur once.
        source: the name of the source in messages.
        hint: what to do about a duplicate name.

    Raises:
        SourceFailed: if a wanted name occurs twice.
    """
    occurring = Counter(header)
    if wanted is None:
        wanted = {name for name, times in occurring.items() if name and times == 1}
    duplicate = next((name for name in header if name in wanted and occurring[name] > 1), None)
    if duplicate is not None:
        raise SourceFailed(f"{source} has two columns named {quoted(duplicate)}: {hint}.")
    return {name: index for index, name in enumerate(header) if name in wanted}


def object_column(values: Sequence[Any]) -> NDArray[Any]:
    """``values`` as an object array of shape (len(values),); lists stay lists."""
    return np.fromiter(values, dtype=object, count=len(values))


def to_column(values: Sequence[Any], *, from_json: bool = False) -> Column:
    """``values`` as an Arrow array if they have one type that Arrow holds unchanged, else as an object array.

    Args:
        from_json: whether they all come from JSON; Arrow itself refuses mixtures of such types.
    """
    import pyarrow as pa

    kinds = set() if from_json else set(map(type, values)) - {type(None)}
    if len(kinds) > 1 and kinds != {int, float}:  # Arrow makes bytes of text, and days of times
        return object_column(values)
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return object_column(values)


def concat_columns(parts: Sequence[Column]) -> Column:
    """Parts of one column as one; as Python objects if their types differ, so that no value changes."""
    import pyarrow as pa

    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, pa.Array)]
    kinds = {array.type for array in arrays} - {pa.null()}
    if len(arrays) < len(parts) or len(kinds) > 1:
        return object_column(list(chain.from_iterable(part.tolist() for part in parts)))
    kind = next(iter(kinds), pa.null())
    return pa.chunked_array([one.cast(kind) if pa.types.is_null(one.type) else one for one in arrays], kind)


def empty_column() -> Column:
    """A column without values."""
    return object_column([])
