"""Reading the attributes of items: what a task's item features say of the items that were interacted with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recserver.chefs.protocol import Batch, Column
from recserver.chefs.redaction import Redactor
from recserver.chefs.rename_columns import renamed_columns
from recserver.chefs.row_rules import RowRules
from recserver.core.errors import InvalidInput, SourceFailed, quoted
from recserver.recommend.filters import MAX_ATTRIBUTE_LENGTH, RESERVED_CHARACTERS, is_attribute_name
from recserver.recommend.model.attribute_arrays import MAX_ATTRIBUTES
from recserver.training.ingest.attribute_columns import AttributeColumn, PackedAttributes, pack_attributes
from recserver.training.ingest.attribute_values import text_values
from recserver.training.ingest.id_encoding import INVALID_REASONS, encode_ids
from recserver.training.ingest.row_counts import RowCounts
from recserver.training.ingest.row_validation import format_row
from recserver.training.ingest.source_reader import open_chef, read_batches
from recserver.training.jobs import FeaturesReport, TrainingJob

MAX_NAMES_SHOWN = 20
"""Columns that a sentence names at most."""

OnRows = Callable[[int], None]
"""Told how many rows of the item features have been read."""


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """What came of the item features.

    Attributes:
        packed: the attributes; None if there are none.
        report: what was read; None if the job names no item features.
        warnings: what is odd about them, a sentence each.
    """

    attributes: PackedAttributes | None = None
    report: FeaturesReport | None = None
    warnings: list[str] = field(default_factory=list)


def collect_features(job: TrainingJob, items: Sequence[str], on_rows: OnRows) -> ItemFeatures:
    """What the job's item features say of these items; nothing if it names none.

    Args:
        items: ids of all items of the model, in its order.

    Raises:
        SourceFailed: if the source cannot be read or holds nothing usable; the sentence says whose chef it is.
    """
    if job.item_features is None:
        return ItemFeatures()
    hiding = Redactor(job.item_features)
    whose = f"The item features (data chef {quoted(job.item_features_data_chef_id)}) cannot be used"
    try:
        rules, chef = open_chef(job.item_features, job.policy)
        builder = _FeaturesBuilder(rules, items)
        for batch in read_batches(chef, None, builder.reset):
            builder.add(batch)
            on_rows(builder.counts.rows_read)
        return builder.finish(hiding)
    except InvalidInput as error:
        raise SourceFailed(f"{whose}: {hiding.redact_message(str(error))}") from None
    except SourceFailed as error:
        raise error.with_message(f"{whose}: {hiding.redact_message(str(error))}") from None


class _FeaturesBuilder:
    """Takes batches as they come. Of the rows of items that are in the model, codes and places are kept."""

    def __init__(self, rules: RowRules, items: Sequence[str]) -> None:
        self._renames = rules.renames
        self._item_index = {item: place for place, item in enumerate(items)}
        self._n_items = len(items)
        self.reset()

    def reset(self) -> None:
        """Start again: the source is read from its beginning."""
        self._columns: dict[str, AttributeColumn] = {}
        self._unusable: dict[str, None] = {}
        self._over_limit: dict[str, None] = {}
        self._has_row = np.zeros(self._n_items, bool)
        self.counts = RowCounts()

    def add(self, batch: Batch) -> None:
        """Take what the rows of a batch say of known items.

        Raises:
            SourceFailed: if they have no ids of items.
        """
        self.counts.add(batch)
        if not batch.n_rows:
            return
        named = {new: batch.columns[old] for new, old in renamed_columns(batch.columns, self._renames).items()}
        if "item_id" not in named and self._item_id_missing():
            raise SourceFailed(self._missing_id_message())
        rows, items = self._match_items(named.pop("item_id", pa.nulls(batch.n_rows)))
        self._has_row[items] = True
        everything = len(rows) == batch.n_rows
        for name, column in named.items():
            if (kept := self._attribute_column(name)) is not None:
                kept.add(text_values(column if everything else _take_rows(column, rows)), items)

    def _match_items(self, ids: Column) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The rows of items that are in the model, and the places of these items; both ascending in rows."""
        judged = encode_ids(ids)
        for place, reason in enumerate(INVALID_REASONS):
            faulty = np.flatnonzero(judged.codes == -1 - place)
            if len(faulty):
                self.counts.reject(f"item_id {reason}", len(faulty), format_row({"item_id": ids}, int(faulty[0])))
        self.counts.rows_kept += int((judged.codes >= 0).sum())
        found = [self._item_index.get(one, -1) for one in judged.ids.to_pylist()]
        items = np.append(np.array(found, np.int32), np.int32(-1))[np.maximum(judged.codes, -1)]
        rows = np.flatnonzero(items >= 0)
        return rows, items[rows]

    def _attribute_column(self, name: str) -> AttributeColumn | None:
        """Where the values of a column go; None if it cannot be an attribute."""
        if name in self._columns:
            return self._columns[name]
        if not _is_usable_name(name):
            self._unusable[name] = None
        elif len(self._columns) >= MAX_ATTRIBUTES:
            self._over_limit[name] = None
        else:
            return self._columns.setdefault(name, AttributeColumn(name))
        return None

    def finish(self, redactor: Redactor) -> ItemFeatures:
        """Everything that was read, without secrets that the source repeats.

        Raises:
            SourceFailed: if no row has a usable id of an item.
        """
        if not self.counts.rows_kept:
            raise SourceFailed(self._no_usable_rows_message())
        warnings = self._warnings()
        attributes = []
        for column in self._columns.values():
            one, odd = column.finish()
            attributes += [] if one is None else [one]
            warnings += odd
        packed = pack_attributes(attributes, self._n_items) if attributes else None
        rows = self.counts.report(redactor.redact_name, redactor.redact_message)
        report = FeaturesReport(
            rows_read=self.counts.rows_read,
            rows_kept=self.counts.rows_kept,
            rejected=rows["rejected"],
            examples=rows["examples"],
            n_items=int(self._has_row.sum()),
            attributes={redactor.redact_name(one.name): one.kind.value for one in attributes},
        )
        if packed is None:
            warnings.append("The item features have no attributes: no answer can be filtered by them.")
        return ItemFeatures(packed, report, [redactor.redact_message(warning) for warning in warnings])

    def _warnings(self) -> list[str]:
        said = [f"Of the item features: {hint}" for hint in self.counts.hints]
        if rejected := self.counts.rejected.total():
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.counts.rejected.items())
            said.append(
                f"{rejected} of {self.counts.rows_read} rows of the item features were left out ({reasons})."
            )
        if not self._has_row.any():
            said.append(
                "No row of the item features is about an item of the interactions: check that item_id means the "
                "same in both data chefs."
            )
        if self._unusable:
            said.append(
                f"{_list_names(self._unusable)} can be no attributes: rename them to names of 1 to "
                f"{MAX_ATTRIBUTE_LENGTH} characters without {' '.join(sorted(RESERVED_CHARACTERS))}."
            )
        if twice := self._duplicate_names():
            said.append(f"{_list_names(twice)} are there twice and were left out: rename them in the source.")
        if self._over_limit:
            said.append(
                f"Items have at most {MAX_ATTRIBUTES} attributes: {_list_names(self._over_limit)} were left out."
            )
        return said

    def _item_id_missing(self) -> bool:
        """Whether no row can have an id of an item."""
        source = renamed_columns(self.counts.column_names, self._renames).get("item_id")
        return source is None or source in self._duplicate_names()

    def _duplicate_names(self) -> dict[str, None]:
        """Columns that nobody reads, for it is not known which one is meant."""
        return {name: None for name, times in Counter(self.counts.column_names).items() if times > 1}

    def _missing_id_message(self) -> str:
        source = renamed_columns(self.counts.column_names, self._renames).get("item_id", "")
        if source in self._duplicate_names():
            return f"The column {quoted(source)} is there twice: rename one of them in the source."
        return (
            f"There is no column item_id; found {_list_names(self.counts.column_names)}: add the one that holds "
            "the ids of items to rename_columns, such as movieId->item_id."
        )

    def _no_usable_rows_message(self) -> str:
        if self.counts.column_names and self._item_id_missing():
            return self._missing_id_message()
        return self.counts.no_rows_message("has a usable item_id")


def _is_usable_name(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return is_attribute_name(name)


def _take_rows(column: Column, rows: NDArray[np.int64]) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))


def _list_names(names: Mapping[str, None] | Sequence[str]) -> str:
    first = [quoted(name) for name in names][:MAX_NAMES_SHOWN]
    return ", ".join(first) + (", …" if len(names) > MAX_NAMES_SHOWN else "")
