"""The first rows of a source: as read, as a training uses them, and what should be changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from recserver._internal.chefs.protocol import Batch, Column
from recserver._internal.chefs.redaction import Redactor
from recserver._internal.chefs.rename_columns import renamed_columns
from recserver._internal.chefs.row_rules import RowRules
from recserver._internal.core.errors import InvalidInput, SourceFailed
from recserver._internal.training.ingest.column_suggestions import duplicate_columns, missing_columns
from recserver._internal.training.ingest.id_encoding import value_at
from recserver._internal.training.ingest.row_counts import RowCounts
from recserver._internal.training.ingest.row_validation import ValidatedBatch, validate
from recserver._internal.training.ingest.source_reader import open_chef, read_batches
from recserver._internal.training.jobs import Preview, PreviewJob
from recserver._internal.training.preview.json_values import format_time, rating_number, shorten, to_json_value
from recserver._internal.training.preview.source_diagnosis import SourceSample
from recserver._internal.training.preview.suggestions import preview_hints

VALIDATED_ROWS = 1000
"""Rows that are read and validated, however few are shown: rare errors need many rows."""

MAX_PREVIEW_BYTES = 400_000
"""Bytes of the rows shown as JSON, raw and renamed together. Where rows are large, fewer are shown."""

MAX_COLUMNS = 200
"""Columns of a row that are shown, and names that are listed."""

WIDE_ROW_COLUMNS = 20
"""Columns that are shown where a row with :data:`MAX_COLUMNS` is too large."""

MAX_REASONS = 50

REJECTED = "_rejected"
"""The field with the reason why a row is left out. A column of this name is not shown among the renamed ones."""

Row = dict[str, Any]


def preview(job: PreviewJob) -> Preview:
    """Read and validate the first rows of the job's chef.

    Raises:
        SourceFailed: if the chef cannot be used, or the source not be read.
    """
    entry = {key: value for key, value in job.data_chef.items() if value is not None}
    enough, redactor = max(job.rows, VALIDATED_ROWS), Redactor(entry)
    try:
        rules, chef = open_chef(entry, job.policy.model_copy(update={"batch_rows": enough}))
        builder = _PreviewBuilder(entry, rules, redactor, job.rows)
        with closing(read_batches(chef, None, builder.reset)) as batches:
            for batch in batches:
                builder.add(_first_rows(batch, enough - builder.counts.rows_read))
                if builder.counts.rows_read >= enough:
                    break
        return builder.result(getattr(chef, "delimiter", None))
    except InvalidInput as error:
        raise SourceFailed(redactor.redact_message(f"The data chef cannot be used: {error}")) from None
    except SourceFailed as error:
        raise error.with_message(redactor.redact_message(str(error))) from None


def _first_rows(batch: Batch, max_rows: int) -> Batch:
    """The first ``max_rows`` rows of a batch: a chef may yield more rows than it was asked for."""
    if batch.n_rows <= max_rows:
        return batch
    return replace(batch, columns={name: column[:max_rows] for name, column in batch.columns.items()})


class _PreviewBuilder:
    """Collects what a preview shows of a source."""

    def __init__(self, entry: Mapping[str, Any], rules: RowRules, redactor: Redactor, max_rows: int) -> None:
        """
        Args:
            max_rows: how many rows are shown.
        """
        self._entry, self._rules = entry, rules
        self._redactor = redactor
        self._rows_shown = max_rows
        self.reset()

    def reset(self) -> None:
        """Start again: the source is read from its beginning."""
        self._max_rows = self._rows_shown
        self._max_columns = MAX_COLUMNS
        self._bytes_left = MAX_PREVIEW_BYTES
        self._raw: list[Row] = []
        self._renamed: list[Row] = []
        self._sample: Mapping[str, Column] = {}
        self.counts = RowCounts(MAX_REASONS)

    def add(self, batch: Batch) -> None:
        """Validate the rows of a batch, and show the first ones of the source."""
        self.counts.add(batch)
        if batch.n_rows:
            validated = validate(batch, self._rules)
            self.counts.add_errors(validated)
            self._sample = self._sample or batch.columns
            self._show_rows(batch, validated)

    def _show_rows(self, batch: Batch, validated: ValidatedBatch) -> None:
        reasons = {int(row): error.reason for error in validated.errors for row in error.rows}
        for row in range(min(batch.n_rows, self._max_rows - len(self._raw))):
            raw, used, size = self._show_row(batch, validated, row, reasons)
            if not self._raw and size > self._bytes_left // 2:
                self._max_columns = WIDE_ROW_COLUMNS
                raw, used, size = self._show_row(batch, validated, row, reasons)
            self._bytes_left -= size
            if self._bytes_left < 0:
                self._max_rows = len(self._raw)
                return
            self._raw.append(raw)
            self._renamed.append(used)

    def _show_row(
        self, batch: Batch, validated: ValidatedBatch, row: int, reasons: Mapping[int, str]
    ) -> tuple[Row, Row, int]:
        """One row as in the source and as a training uses it, and the size of both in bytes."""
        named = {old: new for new, old in renamed_columns(batch.columns, self._rules.renames).items()}
        needed = {old: batch.columns[old] for old, new in named.items() if new in self._rules.required_columns()}
        columns = dict(islice(batch.columns.items(), self._max_columns)) | needed
        # Secrets are redacted before values are shortened, which could cut a secret.
        values = {name: self._redactor.redact_value(value_at(column, row)) for name, column in columns.items()}
        raw = {name: to_json_value(value) for name, value in values.items()}
        used = {named[old]: value for old, value in raw.items() if named.get(old, REJECTED) != REJECTED}
        used |= self._as_trained(validated, row, set(named.values()))
        if row in reasons:
            used[REJECTED] = reasons[row]
        return raw, used, len(json.dumps([raw, used]))

    def _as_trained(self, validated: ValidatedBatch, row: int, present: set[str]) -> Row:
        """The columns that a training reads as it reads them: ids as text, the rating, the time in UTC."""
        used: Row = {}
        for name, ids in (("user_id", validated.users), ("item_id", validated.items)):
            if name in present and ids.codes[row] >= 0:
                used[name] = shorten(self._redactor.redact_text(str(ids.ids[int(ids.codes[row])])))
        events, times = self._rules.used_event_column, self._rules.used_timestamp_column
        weightless = events is not None and validated.ratings[row] < 0
        if (events is None or events in present) and np.isfinite(validated.ratings[row]) and not weightless:
            used["rating"] = rating_number(validated.ratings[row])
        if times in present and validated.times is not None and np.isfinite(validated.times[row]):
            used[str(times)] = format_time(float(validated.times[row]))
        return used

    def result(self, delimiter: str | None) -> Preview:
        """The preview of everything added.

        Args:
            delimiter: of delimited text, if known.
        """
        counts = self.counts
        absent = missing_columns(counts.column_names, self._rules)
        absent += duplicate_columns(counts.column_names, self._rules)  # neither of two is read
        # A missing column makes every row invalid: the suggestions explain it once.
        pointless = {f"{name} {what}" for name in absent for what in ("is missing", "is no time")}
        for row in self._renamed:
            if row.get(REJECTED) in pointless:
                del row[REJECTED]
        for reason in pointless:
            counts.rejected.pop(reason, None)
        sample = SourceSample(
            self._entry, self._rules, counts.column_names, self._sample, counts.rows_read, delimiter
        )
        return Preview(
            raw=[self._redact_names(row) for row in self._raw],
            renamed=[self._redact_names(row) for row in self._renamed],
            columns=[self._redacted_name(name) for name in counts.column_names[:MAX_COLUMNS]],
            **counts.report(self._redacted_name, self._redactor.redact_message),
            suggestions=preview_hints(sample, counts, self._redactor),
            rows_read=counts.rows_read,
        )

    def _redacted_name(self, text: str) -> str:
        return shorten(self._redactor.redact_name(text))

    def _redact_names(self, row: Row) -> Row:
        return {self._redacted_name(name): value for name, value in row.items()}
