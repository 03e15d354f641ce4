"""Sources that are not what they are taken for: rows that lie deeper, an error, another delimiter, no header."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from recserver.chefs.files.file_chef import CsvEntry, format_of
from recserver.chefs.protocol import Column
from recserver.chefs.redaction import Hiding
from recserver.chefs.rename_columns import rename
from recserver.chefs.rest.rest_entry import ApiEntry
from recserver.chefs.row_rules import RowRules
from recserver.chefs.secrets import expand_environment
from recserver.core.errors import SourceFailed, shown
from recserver.training.ingest.column_matching import SYNONYMS, known, like
from recserver.training.ingest.id_encoding import value_at
from recserver.training.preview.json_values import plain, shortened

DEEPEST = 3
MOST_COLUMNS = 200
MOST_VALUES = 200
"""Columns, and values of each, that are looked at."""

MOST_QUOTED = 5

LIST = "a list of objects"

Path = tuple[str, ...]

ERRORS = frozenset(
    {
        "error", "errors", "error_message", "error_description", "message", "msg", "detail", "details", "code",
        "status", "fault", "exception", "reason",
    }
)  # fmt: skip
"""What the fields of an error are often called."""

NAMES = ("user_id", "item_id", "rating", "timestamp")
"""How the columns of tables without a header usually follow each other."""

_NUMBER_OR_DATE = re.compile(r"[-+]?\d+([.,]\d+)?|\d{4}-\d\d-\d\d.*")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a source found.

    Attributes:
        entry: of the data chef.
        rules: of the entry.
        found: names of all columns.
        sample: the first rows, by column.
        rows_read: how many rows there were.
        delimiter: that a file of delimited text was read with, if anybody knows.
    """

    entry: Mapping[str, Any]
    rules: RowRules
    found: Sequence[str]
    sample: Mapping[str, Column]
    rows_read: int
    delimiter: str | None

    @property
    def kind(self) -> str:
        """``csv`` (delimited text), ``jsonl``, ``parquet``, ``sql``, ``api``, or the name of a plug-in."""
        kind = str(self.entry.get("type", "")).lower()
        if kind != "csv":
            return kind
        try:
            path = str(expand_environment({"path": self.entry.get("path", "")})["path"])
        except SourceFailed:
            path = ""
        return str(self.entry.get("format") or format_of(path))

    def values(self, name: str, most: int = MOST_VALUES) -> list[Any]:
        """The first values of a column; those that Python cannot hold are left out."""
        column = self.sample.get(name, ())
        values = []
        for row in range(min(len(column), most)):
            try:
                values.append(value_at(column, row))
            except (ValueError, OverflowError, pa.ArrowException):  # half a character, a date before the year 1
                continue
        return values

    def matches(self, names: Sequence[str]) -> int:
        """How many of the two ids such columns seem to hold."""
        there = rename(names, self.rules.renames)
        return sum(name in there or like(name, names) is not None for name in ("user_id", "item_id"))


def misread(seen: Seen, hiding: Hiding) -> str | None:
    """The sentence about a source that no renaming of its columns can mend, if it is one that lacks a column."""
    there = rename(seen.found, seen.rules.renames)
    missing = next((name for name, must in seen.rules.needed().items() if must and name not in there), None)
    if missing is None or not seen.found:
        return None
    if seen.kind == "csv":
        return _one_column(seen) or _no_header(seen)
    if seen.kind not in ("api", "jsonl"):
        return None
    row = {name: next(iter(seen.values(name, 1)), None) for name in seen.found[:MOST_COLUMNS]}
    own = seen.matches([name for name, value in row.items() if not isinstance(value, dict | list)])
    return _elsewhere(seen, row, own, missing) or _an_error(seen, row, own, hiding)


def _elsewhere(seen: Seen, row: Mapping[str, Any], own: int, missing: str) -> str | None:
    """Of an object that was taken for a row, and holds the rows."""
    paged = bool(seen.entry.get("paginated") or seen.entry.get("paginator"))
    if seen.rows_read > 1 and (own or not paged):
        return None
    places = [(seen.matches(list(first)), path, what) for path, first, what in _places(row, ())]
    usable = [one for one in places if one[2] == LIST or one[0] == 2]
    nowhere: tuple[int, Path, str] = (0, (), "")
    likeliest, path, what = max(usable, key=lambda one: one[0], default=nowhere)
    if not path or (own and likeliest <= own) or (seen.rows_read > 1 and likeliest < 2):
        return None
    place = ".".join(path)
    if seen.kind == "jsonl":
        return (
            f"The file holds one object without {missing}; {what} stands at {shown(place)}: write what stands "
            "there to the file, one object a line."
        )
    given = seen.entry.get("data_selector")
    selector = f"{given}.{place}" if given else place
    if not _allowed(ApiEntry, {"url": "http://x.example", "data_selector": selector}):
        return None
    many = "The answers are objects" if seen.rows_read > 1 else "The answer is one object"
    do = "correct it to" if given else "add"
    return f"{many} without {missing}; {what} stands at {shown(selector)}: {do} data_selector: {selector}"


def _places(row: Mapping[str, Any], above: Path) -> Iterator[tuple[Path, Mapping[str, Any], str]]:
    """The way to each object in ``row`` and to each list of objects, the first object there, and which it is."""
    for name, value in row.items():
        if not name or "." in name or name.casefold() in ERRORS:
            continue
        path = (*above, name)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield path, value[0], LIST
        elif isinstance(value, dict):
            yield path, value, "an object with it"
            if len(path) < DEEPEST:
                yield from _places(value, path)


def _an_error(seen: Seen, row: Mapping[str, Any], own: int, hiding: Hiding) -> str | None:
    if seen.kind != "api" or seen.rows_read != 1 or own or not any(name.casefold() in ERRORS for name in row):
        return None
    said = plain(hiding.in_value(dict(row)))
    text = said if isinstance(said, str) else shortened(json.dumps(said, ensure_ascii=False))
    return (
        f"The source answered with one object that looks like an error, no rows: {text}. Check the url, auth and "
        "headers of the data chef."
    )


def _one_column(seen: Seen) -> str | None:
    """Of delimited text that was read with the wrong delimiter."""
    if len(seen.found) != 1 or (mark := _mark(seen, seen.found[0])) is None:
        return None
    start = f"The file has one column only, {shown(seen.found[0])}"
    if _allowed(CsvEntry, {"path": "x", "delimiter": mark}):
        do = "correct its delimiter" if seen.entry.get("delimiter") else "give its delimiter"
        return f"{start}: {do}, probably {shown(mark)}."
    what = "a blank" if mark == " " else shown(mark)
    return (
        f"{start}: it seems to be separated by {what}, which cannot be a delimiter here: write the file with "
        "commas or tabs between its columns."
    )


def _mark(seen: Seen, header: str) -> str | None:
    """What seems to separate the columns of a file that was taken for one with a single column."""
    marks = Counter(run.strip() or " " for run in re.findall(r"[^\w\"']+", header))
    rows = [str(value) for value in seen.values(header)]
    for mark, times in marks.most_common():
        alike = sum(row.count(mark) == times for row in rows)
        ids = seen.matches([part.strip() for part in header.split(mark)])
        if ids == 2 or (rows and alike > 0.9 * len(rows)):
            return mark
    return None


def _no_header(seen: Seen) -> str | None:
    """Of delimited text whose first row was taken for its header."""
    names = list(seen.found[:MOST_COLUMNS])
    if any(map(known, names)) or any(like(name, names) for name in SYNONYMS):
        return None
    numbers = any(_NUMBER_OR_DATE.fullmatch(name) for name in names)
    if not numbers and not all(name in map(str, seen.values(name, 1000)) for name in names):
        return None
    quoted = ", ".join(map(shown, names[:MOST_QUOTED])) + (", …" if len(names) > MOST_QUOTED else "")
    more = (f"column{place + 1}" for place in range(len(NAMES), len(names)))
    header = (seen.delimiter or ",").join([*NAMES, *more][: max(2, len(names))])
    return f"The first line looks like data ({quoted}): add a header line, such as {header}"


def _allowed(model: type[CsvEntry | ApiEntry], entry: Mapping[str, Any]) -> bool:
    try:
        model.model_validate(entry)
    except ValidationError:
        return False
    return True
