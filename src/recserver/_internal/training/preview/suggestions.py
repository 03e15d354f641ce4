"""The hints of a preview: what to change, the most likely cause first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from recserver._internal.chefs.chef_entry import object_column
from recserver._internal.chefs.protocol import Column
from recserver._internal.chefs.redaction import Redactor
from recserver._internal.training.ingest.column_suggestions import MAX_NAMES_EXAMINED, SourceFacts, column_hints
from recserver._internal.training.ingest.id_encoding import is_list
from recserver._internal.training.ingest.row_counts import RowCounts
from recserver._internal.training.ingest.row_validation import RATING_NOT_A_NUMBER
from recserver._internal.training.ingest.value_parsing import parse_ratings
from recserver._internal.training.preview.source_diagnosis import SourceSample, diagnose

MAX_FIELDS = 5
"""Fields of nested objects that are named."""

MAX_HINTS = 20

_DUPLICATE_HINTS = {
    "csv": "give one of them another name in its header",
    "sql": "give one of them another name in the query, with AS",
}
_NESTED_HINTS = {"sql": ", each as a column of its own"}

_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")


def preview_hints(source: SourceSample, counts: RowCounts, redactor: Redactor) -> list[str]:
    """Everything that should be changed, a sentence each, without secrets."""
    diagnosis = diagnose(source, redactor)
    sentences = (
        column_hints(source.column_names, source.rules, _source_facts(source))
        if diagnosis is None
        else [diagnosis]
    )
    if not source.rows_read and diagnosis is None:
        sentences.append("The source holds no rows: check the path, query or address of the data chef.")
    sentences = [redactor.redact_name(one) for one in sentences]
    sentences += [
        _not_a_number_hint(count, source.rows_read, redactor.redact_message(counts.examples[reason]))
        for reason, count in counts.replaced.items()
        if reason == RATING_NOT_A_NUMBER
    ]
    chef_hints = [redactor.redact_message(hint) for hint in counts.hints][:MAX_HINTS]
    return list(dict.fromkeys([*sentences, *chef_hints]))


def _not_a_number_hint(count: int, total: int, example: str) -> str:
    value = example.removeprefix("rating=")
    comma = _DECIMAL_COMMA.fullmatch(value.strip("'\" ")) is not None
    advice = "write a point in place of the comma." if comma else "such a row counts 1."
    return f"In {count} of {total} rows the rating is not a number, such as {value}: {advice}"


def _source_facts(source: SourceSample) -> SourceFacts:
    kinds = {name: _nested_kind(column) for name, column in list(source.sample.items())[:MAX_NAMES_EXAMINED]}
    return SourceFacts(
        nested={name: kind for name, kind in kinds.items() if kind is not None},
        is_numeric=lambda name: _is_numeric(source, name),
        duplicate_hint=_DUPLICATE_HINTS.get(source.kind, "give one of them another name there"),
        nested_hint=_NESTED_HINTS.get(source.kind, ""),
    )


def _nested_kind(column: Column) -> str | None:
    """What the values of a column are, if most of them are nested."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        kind = column.type
        if pa.types.is_struct(kind):
            return _describe_objects(field.name for field in kind)
        if pa.types.is_map(kind):
            return "objects"
        return "lists" if is_list(kind) else None
    if column.dtype != object:
        return None
    sample = [value for value in column[:50] if value is not None]
    nested = [value for value in sample if isinstance(value, Mapping | list | tuple | set | np.ndarray)]
    if len(nested) <= len(sample) // 2:
        return None
    return _describe_objects(nested[0]) if isinstance(nested[0], Mapping) else "lists"


def _describe_objects(names: Iterable[Any]) -> str:
    found = [str(name) for name in names]
    more = ", …" if len(found) > MAX_FIELDS else ""
    return f"objects ({', '.join(found[:MAX_FIELDS])}{more})" if found else "objects"


def _is_numeric(source: SourceSample, name: str) -> bool:
    """Whether most values of a column are numbers; True if it has none."""
    values = [value for value in source.values(name) if value is not None and value != ""]
    _, unreadable = parse_ratings(object_column(values))
    return int(unreadable.sum()) <= len(values) // 2
