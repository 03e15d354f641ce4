"""The CSV chef: comma-separated UTF-8 with a header, every value text exactly as written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recserver.chefs import BATCH_ROWS, Batch
from recserver.chefs.csv_text import CsvText
from recserver.chefs.entries import (
    ChefEntry,
    has_reference,
    positions,
    read_entry,
    refused,
    variable_warnings,
)
from recserver.chefs.paths import absence, confined, confined_now, open_regular
from recserver.errors import SourceFailed, shown
from recserver.specs.jobs import SourcePolicy
from recserver.specs.secrets import expand_environment
from recserver.specs.values import Text


class CsvEntry(ChefEntry):
    """``path, rename_columns``."""

    path: Text


class CsvChef:
    """Reads one CSV file. See :class:`recserver.chefs.Chef`.

    A row with fewer fields than the header has empty ones at its end. A row with more (unless the surplus
    begins empty, as a trailing comma leaves it) is all None, for nobody knows which of its fields are which:
    it is counted as rejected later. Blank lines are no rows.
    """

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self._entry = dict(entry)
        self._policy = policy
        self._path = read_entry(CsvEntry, entry).path
        if not has_reference(self._path):
            try:
                confined(self._path, policy)
            except ValueError as error:
                raise refused("path", error) from None

    def warnings(self) -> list[str]:
        if unset := variable_warnings({"path": self._path}):
            return unset
        try:
            text = str(expand_environment({"path": self._path})["path"])
            missing = absence(confined_now(text, self._policy), text)
        except SourceFailed as error:
            missing = str(error)
        return [missing] if missing else []

    def batches(self, wanted: Collection[str]) -> Iterator[Batch]:
        text = str(expand_environment({"path": self._path})["path"])
        with open_regular(confined_now(text, self._policy), text) as raw:
            yield from _read(raw, wanted, f"The file {shown(text)}")


def _read(raw: BinaryIO, wanted: Collection[str], source: str) -> Iterator[Batch]:
    text = CsvText(raw, source)
    header = text.header()
    found = tuple(dict.fromkeys(filter(None, header)))
    places = positions(header, wanted, source, "rename one of them in its header")
    if not places:
        if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), None)):
            raise SourceFailed(f"{source} seems to be separated by {other!r}: save it with commas.")
        yield Batch(found, {})
        return
    yield Batch(found, {name: np.empty(0, dtype=object) for name in places})
    for frame in _frames(text, len(header), list(places.values()), source):
        columns = {name: frame[str(place)].to_numpy(dtype=object) for name, place in places.items()}
        surplus = frame[str(len(header))].to_numpy(dtype=object) != ""
        if surplus.any():
            columns = {name: _without(column, surplus) for name, column in columns.items()}
        yield Batch(found, columns)


def _frames(text: CsvText, width: int, places: list[int], source: str) -> Iterator[Any]:
    """Frames of up to :data:`BATCH_ROWS` rows: the columns at ``places`` and, last, the surplus fields."""
    import pandas as pd

    read_csv: Any = pd.read_csv  # its stubs do not know readers that bring only what pandas asks for
    try:
        # pandas gets a header one field wider than the file's own: the surplus of ragged rows lands there.
        with read_csv(
            text.under(",".join(map(str, range(width + 1)))),
            usecols=[*places, width],
            dtype=object,
            na_filter=False,
            index_col=False,
            chunksize=BATCH_ROWS,
        ) as frames:
            for frame in frames:
                text.rows_are_out()
                yield frame
    except (pd.errors.ParserError, pd.errors.EmptyDataError, MemoryError) as error:
        raise SourceFailed(text.failure or _in_words(str(error), source)) from None


def _in_words(complaint: str, source: str) -> str:
    _, never_closed, row = complaint.partition("EOF inside string starting at row ")
    if never_closed and row.isdigit():
        return f"{source} has a quote in data row {row} that is never closed: close it, or double it."
    return f"{source} cannot be read as comma-separated text: check its quotes and commas."


def _without(column: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    kept = column.copy()
    kept[rows] = None
    return kept
