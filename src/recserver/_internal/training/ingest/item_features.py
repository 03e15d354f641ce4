"""Reading item features: the attributes of the items that the interactions have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recserver._internal.chefs.protocol import Batch, Column
from recserver._internal.chefs.redaction import Redactor
from recserver._internal.chefs.rename_columns import renamed_columns
from recserver._internal.chefs.row_rules import RowRules
from recserver._internal.core.errors import InvalidInput, SourceFailed, quoted
from recserver._internal.recommend.filters import MAX_ATTRIBUTE_LENGTH, RESERVED_CHARACTERS, is_attribute_name
from recserver._internal.recommend.model.attribute_arrays import MAX_ATTRIBUTES
from recserver._internal.training.ingest.attribute_columns import (
    AttributeColumn,
    PackedAttributes,
    pack_attributes,
)
from recserver._internal.training.ingest.attribute_values import text_values
from recserver._internal.training.ingest.column_suggestions import list_names
from recserver._internal.training.ingest.id_encoding import INVALID_REASONS, encode_ids, is_unicode
from recserver._internal.training.ingest.row_counts import RowCounts
from recserver._internal.training.ingest.row_validation import format_row
from recserver._internal.training.ingest.source_reader import open_chef, read_batches
from recserver._internal.training.jobs import FeaturesReport, TrainingJob

OnRows = Callable[[int], None]
"""Called with the number of rows of the item features that have been read."""


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """The result of reading item features.

    Attributes:
        attributes: the packed attributes; None if there are none.
        report: what was read; None if the job names no item features.
        warnings: one sentence each.
    """

    attributes: PackedAttributes | None = None
    report: FeaturesReport | None = None
    warnings: list[str] = field(default_factory=list)


def collect_features(job: TrainingJob, items: Sequence[str], on_rows: OnRows) -> ItemFeatures:
    """Read the job's item features of these items; empty if it names none.

    Args:
        items: ids of all items of the model, in its order.

    Raises:
        SourceFailed: if the source cannot be read or holds nothing usable; the sentence names the data chef.
    """
    if job.item_features is None:
        return ItemFeatures()
    redactor = Redactor(job.item_features)
    problem = f"The item features (data chef {quoted(job.item_features_data_chef_id)}) cannot be used"
    try:
        rules, chef = open_chef(job.item_features, job.policy)
        builder = _FeaturesBuilder(rules, items)
        for batch in read_batches(chef, None, builder.reset):
            builder.add(batch)
            on_rows(builder.counts.rows_read)
        return builder.finish(redactor)
    except InvalidInput as error:
        raise SourceFailed(f"{problem}: {redactor.redact_message(str(error))}") from None
    except SourceFailed as error:
        raise error.with_message(f"{problem}: {redactor.redact_message(str(error))}") from None


class _FeaturesBuilder:
    """Reads batches of item features. Only values of items that are in the model are stored."""

    def __init__(self, rules: RowRules, items: Sequence[str]) -> None:
        self._renames = rules.renames
        self._item_index = {item: index for index, item in enumerate(items)}
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
        """Add the attributes that the rows of a batch have of known items.

        Raises:
            SourceFailed: if the source has no usable column ``item_id``.
        """
        self.counts.add(batch)
        if not batch.n_rows:
            return
        named = {new: batch.columns[old] for new, old in renamed_columns(batch.columns, self._renames).items()}
        if "item_id" not in named and self._item_id_missing():
            raise SourceFailed(self._missing_id_message())
        rows, items = self._match_items(named.pop("item_id", pa.nulls(batch.n_rows)))
        self._has_row[items] = True
        all_known = len(rows) == batch.n_rows
        for name, column in named.items():
            if (attribute := self._attribute_column(name)) is not None:
                attribute.add(text_values(column if all_known else _take_rows(column, rows)), items)

    def _match_items(self, ids: Column) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The rows whose items are in the model, and the indices of these items; rows ascending."""
        encoded = encode_ids(ids)
        for number, reason in enumerate(INVALID_REASONS):
            invalid = np.flatnonzero(encoded.codes == -1 - number)
            if len(invalid):
                self.counts.reject(
                    f"item_id {reason}", len(invalid), format_row({"item_id": ids}, int(invalid[0]))
                )
        self.counts.rows_kept += int((encoded.codes >= 0).sum())
        indices = [self._item_index.get(item, -1) for item in encoded.ids.to_pylist()]
        items = np.append(np.array(indices, np.int32), np.int32(-1))[np.maximum(encoded.codes, -1)]
        rows = np.flatnonzero(items >= 0)
        return rows, items[rows]

    def _attribute_column(self, name: str) -> AttributeColumn | None:
        """The attribute column for a column of the source; None if it cannot be an attribute."""
        if name in self._columns:
            return self._columns[name]
        if not (is_unicode(name) and is_attribute_name(name)):
            self._unusable[name] = None
        elif len(self._columns) >= MAX_ATTRIBUTES:
            self._over_limit[name] = None
        else:
            return self._columns.setdefault(name, AttributeColumn(name))
        return None

    def finish(self, redactor: Redactor) -> ItemFeatures:
        """The attributes and the report, without secrets that the source repeats.

        Raises:
            SourceFailed: if no row has a usable id of an item.
        """
        if not self.counts.rows_kept:
            raise SourceFailed(self._no_usable_rows_message())
        warnings = self._warnings()
        attributes = []
        for column in self._columns.values():
            attribute, column_warnings = column.finish()
            attributes += [] if attribute is None else [attribute]
            warnings += column_warnings
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
            warnings.append("The item features have no attributes: recommendations cannot be filtered by them.")
        return ItemFeatures(packed, report, [redactor.redact_message(warning) for warning in warnings])

    def _warnings(self) -> list[str]:
        warnings = [f"Of the item features: {hint}" for hint in self.counts.hints]
        if rejected := self.counts.rejected.total():
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.counts.rejected.items())
            warnings.append(
                f"{rejected} of {self.counts.rows_read} rows of the item features were left out ({reasons})."
            )
        if not self._has_row.any():
            warnings.append(
                "No row of the item features is about an item of the interactions: check that item_id means the "
                "same in both data chefs."
            )
        if self._unusable:
            warnings.append(
                f"{list_names(self._unusable)} cannot be attributes: rename them to names of 1 to "
                f"{MAX_ATTRIBUTE_LENGTH} characters without {' '.join(sorted(RESERVED_CHARACTERS))}."
            )
        if duplicates := self._duplicate_names():
            warnings.append(f"{list_names(duplicates)} occur twice and were left out: rename them in the source.")
        if self._over_limit:
            warnings.append(
                f"Items have at most {MAX_ATTRIBUTES} attributes: {list_names(self._over_limit)} were left out."
            )
        return warnings

    def _item_id_missing(self) -> bool:
        """Whether the source has no column, or two columns, for ``item_id``."""
        source = renamed_columns(self.counts.column_names, self._renames).get("item_id")
        return source is None or source in self._duplicate_names()

    def _duplicate_names(self) -> dict[str, None]:
        """Names that several columns have: none of these is read, as it is unclear which one is meant."""
        return {name: None for name, times in Counter(self.counts.column_names).items() if times > 1}

    def _missing_id_message(self) -> str:
        source = renamed_columns(self.counts.column_names, self._renames).get("item_id", "")
        if source in self._duplicate_names():
            return f"The column {quoted(source)} occurs twice: rename one of them in the source."
        return (
            f"There is no column item_id; found {list_names(self.counts.column_names)}: add the one that holds "
            "the ids of items to rename_columns, such as movieId->item_id."
        )

    def _no_usable_rows_message(self) -> str:
        if self.counts.column_names and self._item_id_missing():
            return self._missing_id_message()
        return self.counts.no_rows_message("has a usable item_id")


def _take_rows(column: Column, rows: NDArray[np.int64]) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))
