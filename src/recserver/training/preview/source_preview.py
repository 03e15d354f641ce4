"""A look at the first rows of a source: as they are, as a training takes them, and what is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from recserver.chefs.protocol import Batch, Chef, Column, RestartRead
from recserver.chefs.redaction import Redactor
from recserver.chefs.rename_columns import renamed_columns
from recserver.chefs.row_rules import RowRules
from recserver.core.errors import InvalidInput, SourceFailed
from recserver.training.ingest.column_suggestions import duplicate_columns
from recserver.training.ingest.id_encoding import EncodedIds, value_at
from recserver.training.ingest.row_validation import ValidatedBatch, rejected_rows, validate
from recserver.training.ingest.source_reader import open_chef
from recserver.training.jobs import Preview, PreviewJob
from recserver.training.preview.json_values import format_time, rating_number, shorten, to_json_value
from recserver.training.preview.misread_sources import SourceSample
from recserver.training.preview.suggestions import preview_hints

VALIDATED_ROWS = 1000
"""Rows that are read and judged if the source has them, however few are shown: rare faults need many rows."""

MAX_PREVIEW_BYTES = 400_000
"""The rows shown may take so much as JSON, both ways together. Where they are large, fewer are shown."""

MAX_COLUMNS = 200
"""Columns of a row that are shown, and names that are listed."""

WIDE_ROW_COLUMNS = 20
"""Where a row of so many columns is too large, so many are shown."""

MAX_REASONS = 50

REJECTED = "_rejected"
"""Under this name a row says why it is left out. A column of the source that is called so is not shown there."""

Row = dict[str, Any]


def preview(job: PreviewJob) -> Preview:
    """Read the first rows of the job's chef, judge them, and let the source go.

    Raises:
        SourceFailed: if the chef cannot be used, or the source not be read.
    """
    entry = {key: value for key, value in job.data_chef.items() if value is not None}
    enough, hiding = max(job.rows, VALIDATED_ROWS), Redactor(entry)
    try:
        rules, chef = open_chef(entry, job.policy.model_copy(update={"batch_rows": enough}))
        try:
            return _build_preview(chef, _PreviewBuilder(entry, rules, hiding, job.rows), enough)
        except RestartRead:
            return _build_preview(chef, _PreviewBuilder(entry, rules, hiding, job.rows), enough)
    except InvalidInput as error:
        raise SourceFailed(hiding.redact_message(f"The data chef cannot be used: {error}")) from None
    except SourceFailed as error:
        raise error.with_message(hiding.redact_message(str(error))) from None


def _build_preview(chef: Chef, builder: _PreviewBuilder, max_rows: int) -> Preview:
    """What the first rows of a chef's source, ``enough`` of them, look like."""
    batches = chef.batches(None)
    try:
        for batch in batches:
            builder.add(_first_rows(batch, max_rows - builder.rows_read))
            if builder.rows_read >= max_rows:
                break
    finally:
        _close(batches)
    return builder.result(getattr(chef, "delimiter", None))


def _first_rows(batch: Batch, max_rows: int) -> Batch:
    """No more than the first ``most`` rows of a batch: a chef need not keep to the number it was asked for."""
    if batch.n_rows <= max_rows:
        return batch
    return replace(batch, columns={name: column[:max_rows] for name, column in batch.columns.items()})


def _close(batches: Iterator[Batch]) -> None:
    close: Callable[[], None] | None = getattr(batches, "close", None)  # iterators other than generators lack it
    if close is not None:
        close()


class _PreviewBuilder:
    """What has been seen of a source so far."""

    def __init__(self, entry: Mapping[str, Any], rules: RowRules, redactor: Redactor, max_rows: int) -> None:
        """
        Args:
            shown: how many rows are kept to be shown.
        """
        self._entry, self._rules = entry, rules
        self._redactor = redactor
        self._max_rows = max_rows
        self._max_columns = MAX_COLUMNS
        self._bytes_left = MAX_PREVIEW_BYTES
        self._raw: list[Row] = []
        self._renamed: list[Row] = []
        self._column_names: tuple[str, ...] = ()
        self._sample: Mapping[str, Column] = {}
        self._hints: dict[str, None] = {}
        self._rejected: Counter[str] = Counter()
        self._replaced: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.rows_read = 0

    def add(self, batch: Batch) -> None:
        """Judge a batch, and keep its first rows while some are wanted."""
        self._column_names = batch.column_names or self._column_names
        self._hints.update(dict.fromkeys(batch.hints))
        self.rows_read += batch.n_rows + sum(one.count for one in batch.rejected)
        judged = validate(batch, self._rules) if batch.n_rows else None
        for reason, count, example in rejected_rows(batch, judged):
            if reason in self._rejected or len(self._rejected) < MAX_REASONS:
                self._rejected[reason] += count
                self._examples.setdefault(reason, example)
        if judged is None:
            return
        for fault in judged.replaced:
            self._replaced[fault.reason] += len(fault.rows)
            self._examples.setdefault(fault.reason, fault.example)
        self._sample = self._sample or batch.columns
        self._show_rows(batch, judged)

    def _show_rows(self, batch: Batch, validated: ValidatedBatch) -> None:
        reasons = {int(row): fault.reason for fault in validated.errors for row in fault.rows}
        for row in range(min(batch.n_rows, self._max_rows - len(self._raw))):
            raw, taken, size = self._show_row(batch, validated, row, reasons)
            if not self._raw and size > self._bytes_left // 2:
                self._max_columns = WIDE_ROW_COLUMNS
                raw, taken, size = self._show_row(batch, validated, row, reasons)
            self._bytes_left -= size
            if self._bytes_left < 0:
                self._max_rows = len(self._raw)
                return
            self._raw.append(raw)
            self._renamed.append(taken)

    def _show_row(
        self, batch: Batch, validated: ValidatedBatch, row: int, reasons: Mapping[int, str]
    ) -> tuple[Row, Row, int]:
        """One row as the source has it and as a training takes it, and the size of both in bytes."""
        named = {old: new for new, old in renamed_columns(batch.columns, self._rules.renames).items()}
        needed = {old: batch.columns[old] for old, new in named.items() if new in self._rules.required_columns()}
        columns = dict(islice(batch.columns.items(), self._max_columns)) | needed
        raw = {name: self._json_value(column, row) for name, column in columns.items()}
        taken = {named[old]: value for old, value in raw.items() if named.get(old, REJECTED) != REJECTED}
        taken |= self._as_trained(validated, row, set(named.values()))
        if row in reasons:
            taken[REJECTED] = reasons[row]
        return raw, taken, len(json.dumps([raw, taken]))

    def _as_trained(self, validated: ValidatedBatch, row: int, present: set[str]) -> Row:
        """What a training makes of the columns that it reads: ids as text, the rating, the time in UTC."""
        taken: Row = {}
        for name, ids in (("user_id", validated.users), ("item_id", validated.items)):
            if name in present and ids.codes[row] >= 0:
                taken[name] = self._shown_id(ids, row)
        events, times = self._rules.used_event_column, self._rules.used_timestamp_column
        weightless = events is not None and validated.ratings[row] < 0
        if (events is None or events in present) and np.isfinite(validated.ratings[row]) and not weightless:
            taken["rating"] = rating_number(validated.ratings[row])
        if times in present and validated.times is not None and np.isfinite(validated.times[row]):
            taken[str(times)] = format_time(float(validated.times[row]))
        return taken

    def _json_value(self, column: Column, row: int) -> Any:
        try:
            return to_json_value(
                self._redactor.redact_value(value_at(column, row))
            )  # before it is shortened, secrets with it
        except (ValueError, OverflowError, pa.ArrowException):  # half a character, a date before the year 1
            return "(cannot be shown)"

    def _shown_id(self, ids: EncodedIds, row: int) -> str:
        return shorten(self._redactor.redact_text(str(ids.ids[int(ids.codes[row])].as_py())))

    def result(self, delimiter: str | None) -> Preview:
        """Everything that was seen.

        Args:
            delimiter: that the source was read with, if it is delimited text and anybody knows.
        """
        present = renamed_columns(self._column_names, self._rules.renames)
        absent = [name for name, must in self._rules.required_columns().items() if must and name not in present]
        absent += duplicate_columns(self._column_names, self._rules)  # nobody reads either
        # Of a column that is not there every row is bad: the suggestions say it once, and better.
        pointless = {f"{name} {what}" for name in absent for what in ("is missing", "is no time")}
        for row in self._renamed:
            if row.get(REJECTED) in pointless:
                del row[REJECTED]
        counted = {reason: count for reason, count in self._rejected.items() if reason not in pointless}
        seen = SourceSample(self._entry, self._rules, self._column_names, self._sample, self.rows_read, delimiter)
        name, sentence = self._redacted_name, self._redactor.redact_message
        return Preview(
            raw=[self._redact_names(row) for row in self._raw],
            renamed=[self._redact_names(row) for row in self._renamed],
            columns=[name(one) for one in self._column_names[:MAX_COLUMNS]],
            rejected={name(reason): count for reason, count in counted.items()},
            replaced=dict(self._replaced),
            examples={name(reason): sentence(self._examples[reason]) for reason in [*counted, *self._replaced]},
            suggestions=preview_hints(seen, self._replaced, self._examples, self._hints, self._redactor),
            rows_read=self.rows_read,
        )

    def _redacted_name(self, text: str) -> str:
        return shorten(self._redactor.redact_name(text))

    def _redact_names(self, row: Row) -> Row:
        return {self._redacted_name(name): value for name, value in row.items()}
