"""Diagnosis of sources that were read in a wrong way: nested rows, an error document, a delimiter, no header."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from recserver._internal.chefs.files.file_chef import CsvEntry, format_from_name
from recserver._internal.chefs.protocol import Column
from recserver._internal.chefs.redaction import Redactor
from recserver._internal.chefs.rename_columns import renamed_columns
from recserver._internal.chefs.rest.rest_entry import ApiEntry
from recserver._internal.chefs.row_rules import RowRules
from recserver._internal.chefs.secrets import expand_environment
from recserver._internal.core.errors import SourceFailed, quoted
from recserver._internal.training.ingest.column_matching import SYNONYMS, is_known_name, matching_column
from recserver._internal.training.ingest.column_suggestions import missing_columns
from recserver._internal.training.ingest.id_encoding import value_at
from recserver._internal.training.preview.json_values import shorten, to_json_value

MAX_DEPTH = 3
MAX_COLUMNS = 200
MAX_VALUES = 200
"""Columns, and values of each, that are examined."""

MAX_QUOTED = 5

LIST_OF_OBJECTS = "a list of objects"

KeyPath = tuple[str, ...]

ERROR_FIELDS = frozenset(
    {
        "error", "errors", "error_message", "error_description", "message", "msg", "detail", "details", "code",
        "status", "fault", "exception", "reason",
    }
)  # fmt: skip
"""Usual names of the fields of an error."""

HEADER_NAMES = ("user_id", "item_id", "rating", "timestamp")
"""The usual order of columns in files without a header."""

_NUMBER_OR_DATE = re.compile(r"[-+]?\d+([.,]\d+)?|\d{4}-\d\d-\d\d.*")


@dataclass(frozen=True, slots=True)
class SourceSample:
    """The first rows of a source.

    Attributes:
        entry: of the data chef.
        rules: of the entry.
        column_names: of all columns.
        sample: the first rows, by column.
        rows_read: number of rows read.
        delimiter: of delimited text, if known.
    """

    entry: Mapping[str, Any]
    rules: RowRules
    column_names: Sequence[str]
    sample: Mapping[str, Column]
    rows_read: int
    delimiter: str | None

    @property
    def kind(self) -> str:
        """The format of a file, such as ``csv`` (delimited text); else ``sql``, ``api``, or a plug-in's name."""
        kind = str(self.entry.get("type", "")).lower()
        if kind != "csv":
            return kind
        try:
            path = str(expand_environment({"path": self.entry.get("path", "")})["path"])
        except SourceFailed:
            path = ""
        return str(self.entry.get("format") or format_from_name(path))

    def values(self, name: str, max_values: int = MAX_VALUES) -> list[Any]:
        """The first values of a column."""
        column = self.sample.get(name, ())
        return [value_at(column, row) for row in range(min(len(column), max_values))]

    def count_id_matches(self, names: Sequence[str]) -> int:
        """How many of ``user_id`` and ``item_id`` are probably among these columns."""
        present = renamed_columns(names, self.rules.renames)
        return sum(name in present or matching_column(name, names) is not None for name in ("user_id", "item_id"))


def diagnose(source: SourceSample, redactor: Redactor) -> str | None:
    """The hint for a source that lacks a column which no renaming can provide; None if renaming may help."""
    missing = next(iter(missing_columns(source.column_names, source.rules)), None)
    if missing is None or not source.column_names:
        return None
    if source.kind == "csv":
        return _wrong_delimiter(source) or _missing_header(source)
    if source.kind not in ("api", "jsonl"):
        return None
    row = {name: next(iter(source.values(name, 1)), None) for name in source.column_names[:MAX_COLUMNS]}
    own_matches = source.count_id_matches(
        [name for name, value in row.items() if not isinstance(value, dict | list)]
    )
    return _nested_rows(source, row, own_matches, missing) or _error_object(source, row, own_matches, redactor)


def _nested_rows(source: SourceSample, row: Mapping[str, Any], own_matches: int, missing: str) -> str | None:
    """The hint for an object that was read as a row but holds the rows."""
    paged = bool(source.entry.get("paginated") or source.entry.get("paginator"))
    if source.rows_read > 1 and (own_matches or not paged):
        return None
    nested = [(source.count_id_matches(list(first)), path, what) for path, first, what in _object_paths(row, ())]
    candidates = [one for one in nested if one[2] == LIST_OF_OBJECTS or one[0] == 2]
    none_found: tuple[int, KeyPath, str] = (0, (), "")
    n_matches, path, what = max(candidates, key=lambda one: one[0], default=none_found)
    if not path or (own_matches and n_matches <= own_matches) or (source.rows_read > 1 and n_matches < 2):
        return None
    path_text = ".".join(path)
    if source.kind == "jsonl":
        return (
            f"The file holds one object without {missing}; {what} is at {quoted(path_text)}: write the value at "
            "this place to the file, one object a line."
        )
    current = source.entry.get("data_selector")
    selector = f"{current}.{path_text}" if current else path_text
    if not _is_valid_entry(ApiEntry, {"url": "http://x.example", "data_selector": selector}):
        return None
    many = "The answers are objects" if source.rows_read > 1 else "The answer is one object"
    action = "correct it to" if current else "add"
    return f"{many} without {missing}; {what} is at {quoted(selector)}: {action} data_selector: {selector}"


def _object_paths(row: Mapping[str, Any], above: KeyPath) -> Iterator[tuple[KeyPath, Mapping[str, Any], str]]:
    """The path of each nested object or list of objects, its (first) object, and what it is."""
    for name, value in row.items():
        if not name or "." in name or name.casefold() in ERROR_FIELDS:
            continue
        path = (*above, name)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield path, value[0], LIST_OF_OBJECTS
        elif isinstance(value, dict):
            yield path, value, "an object with it"
            if len(path) < MAX_DEPTH:
                yield from _object_paths(value, path)


def _error_object(
    source: SourceSample, row: Mapping[str, Any], own_matches: int, redactor: Redactor
) -> str | None:
    if (
        source.kind != "api"
        or source.rows_read != 1
        or own_matches
        or not any(name.casefold() in ERROR_FIELDS for name in row)
    ):
        return None
    shown = to_json_value(redactor.redact_value(dict(row)))
    text = shown if isinstance(shown, str) else shorten(json.dumps(shown, ensure_ascii=False))
    return (
        f"The source answered with one object that looks like an error, no rows: {text}. Check the url, auth and "
        "headers of the data chef."
    )


def _wrong_delimiter(source: SourceSample) -> str | None:
    """The hint for delimited text that was read with the wrong delimiter."""
    if len(source.column_names) != 1 or (delimiter := _guess_delimiter(source, source.column_names[0])) is None:
        return None
    start = f"The file has one column only, {quoted(source.column_names[0])}"
    if _is_valid_entry(CsvEntry, {"path": "x", "delimiter": delimiter}):
        action = "correct its delimiter" if source.entry.get("delimiter") else "give its delimiter"
        return f"{start}: {action}, probably {quoted(delimiter)}."
    what = "a blank" if delimiter == " " else quoted(delimiter)
    return (
        f"{start}: it seems to be separated by {what}, which cannot be a delimiter here: write the file with "
        "commas or tabs between its columns."
    )


def _guess_delimiter(source: SourceSample, header: str) -> str | None:
    """The probable delimiter of a file that was read as a single column."""
    delimiters = Counter(run.strip() or " " for run in re.findall(r"[^\w\"']+", header))
    rows = [str(value) for value in source.values(header)]
    for delimiter, count in delimiters.most_common():
        matching = sum(row.count(delimiter) == count for row in rows)
        ids = source.count_id_matches([part.strip() for part in header.split(delimiter)])
        if ids == 2 or (rows and matching > 0.9 * len(rows)):
            return delimiter
    return None


def _missing_header(source: SourceSample) -> str | None:
    """The hint for delimited text whose first row was read as the header."""
    names = list(source.column_names[:MAX_COLUMNS])
    if any(map(is_known_name, names)) or any(matching_column(name, names) for name in SYNONYMS):
        return None
    numbers = any(_NUMBER_OR_DATE.fullmatch(name) for name in names)
    if not numbers and not all(name in map(str, source.values(name, 1000)) for name in names):
        return None
    examples = ", ".join(map(quoted, names[:MAX_QUOTED])) + (", …" if len(names) > MAX_QUOTED else "")
    more = (f"column{index + 1}" for index in range(len(HEADER_NAMES), len(names)))
    header = (source.delimiter or ",").join([*HEADER_NAMES, *more][: max(2, len(names))])
    return f"The first line looks like data ({examples}): add a header line, such as {header}"


def _is_valid_entry(model: type[CsvEntry | ApiEntry], entry: Mapping[str, Any]) -> bool:
    try:
        model.model_validate(entry)
    except ValidationError:
        return False
    return True
