"""What to change after a look at a source, the likeliest cause first: a few sentences, each fit to be followed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from recserver.chefs.chef_entry import object_column
from recserver.chefs.protocol import Column
from recserver.chefs.redaction import Hiding
from recserver.training.ingest.column_suggestions import MOST_LOOKED_AT, Known, suggestions
from recserver.training.ingest.row_validation import NO_NUMBER
from recserver.training.ingest.value_parsing import ratings_of
from recserver.training.preview.misread_sources import Seen, misread

MOST_FIELDS = 5
"""Fields of nested objects that are named."""

MOST_HINTS = 20

_APART = {
    "csv": "give one of them another name in its header",
    "sql": "give one of them another name in the query, with AS",
}
_ELSEWHERE = {"sql": ", each as a column of its own"}

_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")


def advice(
    seen: Seen, replaced: Mapping[str, int], examples: Mapping[str, str], hints: Iterable[str], hiding: Hiding
) -> list[str]:
    """Everything that should be changed, a sentence each, without secrets.

    Args:
        replaced: rows that count otherwise than they say, by reason; ``examples`` has one of each.
        hints: of the chef.
    """
    wrong = misread(seen, hiding)
    said = suggestions(seen.found, seen.rules, _known(seen)) if wrong is None else [wrong]
    if not seen.rows_read and wrong is None:
        said.append("The source holds no rows: check the path, query or address of the data chef.")
    said = [hiding.in_name(one) for one in said]
    said += [
        _no_number(count, seen.rows_read, hiding.in_sentence(examples[reason]))
        for reason, count in replaced.items()
        if reason == NO_NUMBER
    ]
    told = [hiding.in_sentence(one) for one in dict.fromkeys(hints)][:MOST_HINTS]
    return list(dict.fromkeys([*said, *told]))


def _no_number(count: int, of: int, example: str) -> str:
    value = example.removeprefix("rating=")
    comma = _DECIMAL_COMMA.fullmatch(value.strip("'\" ")) is not None
    cure = "write a point in place of the comma." if comma else "such a row counts 1."
    return f"In {count} of {of} rows the rating is no number, such as {value}: {cure}"


def _known(seen: Seen) -> Known:
    kinds = {name: _nested(column) for name, column in list(seen.sample.items())[:MOST_LOOKED_AT]}
    return Known(
        nested={name: kind for name, kind in kinds.items() if kind is not None},
        numeric=lambda name: _numeric(seen, name),
        apart=_APART.get(seen.kind, "give one of them another name there"),
        elsewhere=_ELSEWHERE.get(seen.kind, ""),
    )


def _nested(column: Column) -> str | None:
    """What the values of a column are, if most are no single values."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        kind = column.type
        if pa.types.is_struct(kind):
            return _objects(field.name for field in kind)
        if pa.types.is_map(kind):
            return "objects"
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return "lists" if listed else None
    if column.dtype != object:
        return None
    some = [value for value in column[:50] if value is not None]
    nested = [value for value in some if isinstance(value, Mapping | list | tuple | set | np.ndarray)]
    if len(nested) <= len(some) // 2:
        return None
    return _objects(nested[0]) if isinstance(nested[0], Mapping) else "lists"


def _objects(names: Iterable[Any]) -> str:
    found = [str(name) for name in names]
    more = ", …" if len(found) > MOST_FIELDS else ""
    return f"objects ({', '.join(found[:MOST_FIELDS])}{more})" if found else "objects"


def _numeric(seen: Seen, name: str) -> bool:
    """Whether most values of a column are numbers; so they are taken to be if there are none."""
    values = [value for value in seen.values(name) if value is not None and value != ""]
    _, unreadable = ratings_of(object_column(values))
    return int(unreadable.sum()) <= len(values) // 2
