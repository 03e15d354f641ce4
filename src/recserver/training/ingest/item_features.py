"""Reading the attributes of items: what a task's item features say of the items that were interacted with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recserver.chefs.protocol import Batch, Chef, Column, StartOver
from recserver.chefs.redaction import Hiding
from recserver.chefs.rename_columns import rename
from recserver.chefs.row_rules import RowRules
from recserver.core.errors import InvalidInput, SourceFailed, shown
from recserver.recommend.filters import LONGEST_ATTRIBUTE, NOT_IN_NAMES, usable_attribute
from recserver.recommend.model.attribute_arrays import MOST_ATTRIBUTES
from recserver.training.ingest.attribute_columns import AttributeColumn, PackedAttributes, pack_attributes
from recserver.training.ingest.attribute_values import texts_of
from recserver.training.ingest.id_encoding import REASONS, id_codes
from recserver.training.ingest.row_validation import row_shown
from recserver.training.ingest.source_reader import open_chef
from recserver.training.jobs import FeaturesReport, TrainingJob

MOST_NAMED = 20
"""Columns that a sentence names at most."""

OnRows = Callable[[int], None]
"""Told how many rows of the item features have been read."""


@dataclass(frozen=True, slots=True)
class Features:
    """What came of the item features.

    Attributes:
        packed: the attributes; None if there are none.
        report: what was read; None if the job names no item features.
        warnings: what is odd about them, a sentence each.
    """

    packed: PackedAttributes | None = None
    report: FeaturesReport | None = None
    warnings: list[str] = field(default_factory=list)


def collect_features(job: TrainingJob, items: Sequence[str], on_rows: OnRows) -> Features:
    """What the job's item features say of these items; nothing if it names none.

    Args:
        items: ids of all items of the model, in its order.

    Raises:
        SourceFailed: if the source cannot be read or holds nothing usable; the sentence says whose chef it is.
    """
    if job.item_features is None:
        return Features()
    hiding = Hiding(job.item_features)
    whose = f"The item features (data chef {shown(job.item_features_data_chef_id)}) cannot be used"
    try:
        rules, chef = open_chef(job.item_features, job.policy)
        try:
            found = _read(chef, rules, items, on_rows)
        except StartOver:
            found = _read(chef, rules, items, on_rows)
        return _hidden(found.finish(), hiding)
    except InvalidInput as error:
        raise SourceFailed(f"{whose}: {hiding.in_sentence(str(error))}") from None
    except SourceFailed as error:
        raise error.told(f"{whose}: {hiding.in_sentence(str(error))}") from None


def _read(chef: Chef, rules: RowRules, items: Sequence[str], on_rows: OnRows) -> _Builder:
    builder = _Builder(rules, items)
    for batch in chef.batches(None):
        builder.add(batch)
        on_rows(builder.rows_read)
    return builder


def _hidden(found: Features, hiding: Hiding) -> Features:
    """The same without what the source repeats of its credentials."""
    report, name = found.report, hiding.in_name
    if report is not None:
        report = report.model_copy(
            update={
                "rejected": {name(reason): count for reason, count in report.rejected.items()},
                "examples": {name(reason): hiding.in_sentence(one) for reason, one in report.examples.items()},
                "attributes": {name(one): kind for one, kind in report.attributes.items()},
            }
        )
    return replace(found, report=report, warnings=[hiding.in_sentence(one) for one in found.warnings])


class _Builder:
    """Takes batches as they come. Of the rows of items that are in the model, codes and places are kept."""

    def __init__(self, rules: RowRules, items: Sequence[str]) -> None:
        self._renames = rules.renames
        self._places = {item: place for place, item in enumerate(items)}
        self._columns: dict[str, AttributeColumn] = {}
        self._unusable: dict[str, None] = {}
        self._beyond: dict[str, None] = {}
        self._found: tuple[str, ...] = ()
        self._hints: dict[str, None] = {}
        self._rejected: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._rows_kept = 0
        self._described = np.zeros(len(items), bool)
        self.rows_read = 0

    def add(self, batch: Batch) -> None:
        """Take what the rows of a batch say of known items.

        Raises:
            SourceFailed: if they have no ids of items.
        """
        self._found = batch.found or self._found
        self._hints.update(dict.fromkeys(batch.hints))
        self.rows_read += batch.n_rows + sum(one.count for one in batch.rejected)
        for one in batch.rejected:
            self._reject(f"the row {one.reason}", one.count, one.example)
        if not batch.n_rows:
            return
        named = {new: batch.columns[old] for new, old in rename(batch.columns, self._renames).items()}
        if "item_id" not in named and self._lacks_ids():
            raise SourceFailed(self._without_ids())
        rows, items = self._known(named.pop("item_id", pa.nulls(batch.n_rows)))
        self._described[items] = True
        everything = len(rows) == batch.n_rows
        for name, column in named.items():
            if (kept := self._column(name)) is not None:
                kept.add(texts_of(column if everything else _taken(column, rows)), items)

    def _known(self, ids: Column) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The rows of items that are in the model, and the places of these items; both ascending in rows."""
        judged = id_codes(ids)
        for place, reason in enumerate(REASONS):
            faulty = np.flatnonzero(judged.codes == -1 - place)
            if len(faulty):
                self._reject(f"item_id {reason}", len(faulty), row_shown({"item_id": ids}, int(faulty[0])))
        self._rows_kept += int((judged.codes >= 0).sum())
        found = [self._places.get(one, -1) for one in judged.ids.to_pylist()]
        items = np.append(np.array(found, np.int32), np.int32(-1))[np.maximum(judged.codes, -1)]
        rows = np.flatnonzero(items >= 0)
        return rows, items[rows]

    def _column(self, name: str) -> AttributeColumn | None:
        """Where the values of a column go; None if it cannot be an attribute."""
        if name in self._columns:
            return self._columns[name]
        if not _usable(name):
            self._unusable[name] = None
        elif len(self._columns) >= MOST_ATTRIBUTES:
            self._beyond[name] = None
        else:
            return self._columns.setdefault(name, AttributeColumn(name))
        return None

    def _reject(self, reason: str, count: int, example: str) -> None:
        self._rejected[reason] += count
        self._examples.setdefault(reason, example)

    def finish(self) -> Features:
        """Everything that was read.

        Raises:
            SourceFailed: if no row has a usable id of an item.
        """
        if not self._rows_kept:
            raise SourceFailed(self._nothing_usable())
        warnings = self._warnings()
        attributes = []
        for column in self._columns.values():
            one, odd = column.finish()
            attributes += [] if one is None else [one]
            warnings += odd
        n_items = len(self._described)
        packed = pack_attributes(attributes, n_items) if attributes else None
        report = FeaturesReport(
            rows_read=self.rows_read,
            rows_kept=self._rows_kept,
            rejected=dict(self._rejected),
            examples=self._examples,
            n_items=int(self._described.sum()),
            attributes={one.name: one.kind.value for one in attributes},
        )
        if packed is None:
            warnings.append("The item features have no attributes: no answer can be filtered by them.")
        return Features(packed, report, warnings)

    def _warnings(self) -> list[str]:
        said = [f"Of the item features: {hint}" for hint in self._hints]
        if rejected := sum(self._rejected.values()):
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self._rejected.items())
            said.append(f"{rejected} of {self.rows_read} rows of the item features were left out ({reasons}).")
        if not self._described.any():
            said.append(
                "No row of the item features is about an item of the interactions: check that item_id means the "
                "same in both data chefs."
            )
        if self._unusable:
            said.append(
                f"{_listed(self._unusable)} can be no attributes: rename them to names of 1 to "
                f"{LONGEST_ATTRIBUTE} characters without {' '.join(sorted(NOT_IN_NAMES))}."
            )
        if twice := self._named_twice():
            said.append(f"{_listed(twice)} are there twice and were left out: rename them in the source.")
        if self._beyond:
            said.append(f"Items have at most {MOST_ATTRIBUTES} attributes: {_listed(self._beyond)} were left out.")
        return said

    def _lacks_ids(self) -> bool:
        """Whether no row can have an id of an item."""
        source = rename(self._found, self._renames).get("item_id")
        return source is None or source in self._named_twice()

    def _named_twice(self) -> dict[str, None]:
        """Columns that nobody reads, for it is not known which one is meant."""
        return {name: None for name, times in Counter(self._found).items() if times > 1}

    def _without_ids(self) -> str:
        source = rename(self._found, self._renames).get("item_id", "")
        if source in self._named_twice():
            return f"The column {shown(source)} is there twice: rename one of them in the source."
        return (
            f"There is no column item_id; found {_listed(self._found)}: add the one that holds the ids of items "
            "to rename_columns, such as movieId->item_id."
        )

    def _nothing_usable(self) -> str:
        if self._found and self._lacks_ids():
            return self._without_ids()
        if not self.rows_read:
            return "The source holds no rows. Check the path, query or address of the data chef."
        reasons = "; ".join(
            f"{one}: {count}, such as {self._examples[one]}" for one, count in self._rejected.items()
        )
        return (
            f"None of the {self.rows_read} rows has a usable item_id ({reasons}). Correct the data or the data "
            "chef."
        )


def _usable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return usable_attribute(name)


def _taken(column: Column, rows: NDArray[np.int64]) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))


def _listed(names: Mapping[str, None] | Sequence[str]) -> str:
    first = [shown(name) for name in names][:MOST_NAMED]
    return ", ".join(first) + (", …" if len(names) > MOST_NAMED else "")
