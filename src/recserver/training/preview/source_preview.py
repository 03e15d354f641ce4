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

from recserver.chefs.protocol import Batch, Chef, Column, StartOver
from recserver.chefs.redaction import Hiding
from recserver.chefs.rename_columns import rename
from recserver.chefs.row_rules import RowRules
from recserver.core.errors import InvalidInput, SourceFailed
from recserver.training.ingest.column_suggestions import named_twice
from recserver.training.ingest.id_encoding import IdCodes, value_at
from recserver.training.ingest.row_validation import Judged, judge, rejections
from recserver.training.ingest.source_reader import open_chef
from recserver.training.jobs import Preview, PreviewJob
from recserver.training.preview.json_values import moment, number, plain, shortened
from recserver.training.preview.misread_sources import Seen
from recserver.training.preview.suggestions import advice

JUDGED_ROWS = 1000
"""Rows that are read and judged if the source has them, however few are shown: rare faults need many rows."""

MOST_BYTES = 400_000
"""The rows shown may take so much as JSON, both ways together. Where they are large, fewer are shown."""

MOST_COLUMNS = 200
"""Columns of a row that are shown, and names that are listed."""

FEW_COLUMNS = 20
"""Where a row of so many columns is too large, so many are shown."""

MOST_REASONS = 50

REJECTED = "_rejected"
"""Under this name a row says why it is left out. A column of the source that is called so is not shown there."""

Row = dict[str, Any]


def preview(job: PreviewJob) -> Preview:
    """Read the first rows of the job's chef, judge them, and let the source go.

    Raises:
        SourceFailed: if the chef cannot be used, or the source not be read.
    """
    entry = {key: value for key, value in job.data_chef.items() if value is not None}
    enough, hiding = max(job.rows, JUDGED_ROWS), Hiding(entry)
    try:
        rules, chef = open_chef(entry, job.policy.model_copy(update={"batch_rows": enough}))
        try:
            return _looked(chef, _Look(entry, rules, hiding, job.rows), enough)
        except StartOver:
            return _looked(chef, _Look(entry, rules, hiding, job.rows), enough)
    except InvalidInput as error:
        raise SourceFailed(hiding.in_sentence(f"The data chef cannot be used: {error}")) from None
    except SourceFailed as error:
        raise error.told(hiding.in_sentence(str(error))) from None


def _looked(chef: Chef, look: _Look, enough: int) -> Preview:
    """What the first rows of a chef's source, ``enough`` of them, look like."""
    batches = chef.batches(None)
    try:
        for batch in batches:
            look.add(_first(batch, enough - look.rows_read))
            if look.rows_read >= enough:
                break
    finally:
        _let_go(batches)
    return look.result(getattr(chef, "delimiter", None))


def _first(batch: Batch, most: int) -> Batch:
    """No more than the first ``most`` rows of a batch: a chef need not keep to the number it was asked for."""
    if batch.n_rows <= most:
        return batch
    return replace(batch, columns={name: column[:most] for name, column in batch.columns.items()})


def _let_go(batches: Iterator[Batch]) -> None:
    close: Callable[[], None] | None = getattr(batches, "close", None)  # iterators other than generators lack it
    if close is not None:
        close()


class _Look:
    """What has been seen of a source so far."""

    def __init__(self, entry: Mapping[str, Any], rules: RowRules, hiding: Hiding, shown: int) -> None:
        """
        Args:
            shown: how many rows are kept to be shown.
        """
        self._entry, self._rules = entry, rules
        self._hiding = hiding
        self._most = shown
        self._columns = MOST_COLUMNS
        self._room = MOST_BYTES
        self._raw: list[Row] = []
        self._renamed: list[Row] = []
        self._found: tuple[str, ...] = ()
        self._sample: Mapping[str, Column] = {}
        self._hints: dict[str, None] = {}
        self._rejected: Counter[str] = Counter()
        self._replaced: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.rows_read = 0

    def add(self, batch: Batch) -> None:
        """Judge a batch, and keep its first rows while some are wanted."""
        self._found = batch.found or self._found
        self._hints.update(dict.fromkeys(batch.hints))
        self.rows_read += batch.n_rows + sum(one.count for one in batch.rejected)
        judged = judge(batch, self._rules) if batch.n_rows else None
        for reason, count, example in rejections(batch, judged):
            if reason in self._rejected or len(self._rejected) < MOST_REASONS:
                self._rejected[reason] += count
                self._examples.setdefault(reason, example)
        if judged is None:
            return
        for fault in judged.replaced:
            self._replaced[fault.reason] += len(fault.rows)
            self._examples.setdefault(fault.reason, fault.example)
        self._sample = self._sample or batch.columns
        self._keep(batch, judged)

    def _keep(self, batch: Batch, judged: Judged) -> None:
        reasons = {int(row): fault.reason for fault in judged.faults for row in fault.rows}
        for row in range(min(batch.n_rows, self._most - len(self._raw))):
            raw, taken, size = self._row(batch, judged, row, reasons)
            if not self._raw and size > self._room // 2:
                self._columns = FEW_COLUMNS
                raw, taken, size = self._row(batch, judged, row, reasons)
            self._room -= size
            if self._room < 0:
                self._most = len(self._raw)
                return
            self._raw.append(raw)
            self._renamed.append(taken)

    def _row(self, batch: Batch, judged: Judged, row: int, reasons: Mapping[int, str]) -> tuple[Row, Row, int]:
        """One row as the source has it and as a training takes it, and the size of both in bytes."""
        named = {old: new for new, old in rename(batch.columns, self._rules.renames).items()}
        needed = {old: batch.columns[old] for old, new in named.items() if new in self._rules.needed()}
        columns = dict(islice(batch.columns.items(), self._columns)) | needed
        raw = {name: self._value(column, row) for name, column in columns.items()}
        taken = {named[old]: value for old, value in raw.items() if named.get(old, REJECTED) != REJECTED}
        taken |= self._as_taken(judged, row, set(named.values()))
        if row in reasons:
            taken[REJECTED] = reasons[row]
        return raw, taken, len(json.dumps([raw, taken]))

    def _as_taken(self, judged: Judged, row: int, present: set[str]) -> Row:
        """What a training makes of the columns that it reads: ids as text, the rating, the time in UTC."""
        taken: Row = {}
        for name, ids in (("user_id", judged.users), ("item_id", judged.items)):
            if name in present and ids.codes[row] >= 0:
                taken[name] = self._id(ids, row)
        events, times = self._rules.events, self._rules.times
        weightless = events is not None and judged.ratings[row] < 0
        if (events is None or events in present) and np.isfinite(judged.ratings[row]) and not weightless:
            taken["rating"] = number(judged.ratings[row])
        if times in present and judged.times is not None and np.isfinite(judged.times[row]):
            taken[str(times)] = moment(float(judged.times[row]))
        return taken

    def _value(self, column: Column, row: int) -> Any:
        try:
            return plain(self._hiding.in_value(value_at(column, row)))  # before it is shortened, secrets with it
        except (ValueError, OverflowError, pa.ArrowException):  # half a character, a date before the year 1
            return "(cannot be shown)"

    def _id(self, ids: IdCodes, row: int) -> str:
        return shortened(self._hiding.in_text(str(ids.ids[int(ids.codes[row])].as_py())))

    def result(self, delimiter: str | None) -> Preview:
        """Everything that was seen.

        Args:
            delimiter: that the source was read with, if it is delimited text and anybody knows.
        """
        present = rename(self._found, self._rules.renames)
        absent = [name for name, must in self._rules.needed().items() if must and name not in present]
        absent += named_twice(self._found, self._rules)  # nobody reads either
        # Of a column that is not there every row is bad: the suggestions say it once, and better.
        pointless = {f"{name} {what}" for name in absent for what in ("is missing", "is no time")}
        for row in self._renamed:
            if row.get(REJECTED) in pointless:
                del row[REJECTED]
        counted = {reason: count for reason, count in self._rejected.items() if reason not in pointless}
        seen = Seen(self._entry, self._rules, self._found, self._sample, self.rows_read, delimiter)
        name, sentence = self._named, self._hiding.in_sentence
        return Preview(
            raw=[self._with_names(row) for row in self._raw],
            renamed=[self._with_names(row) for row in self._renamed],
            columns=[name(one) for one in self._found[:MOST_COLUMNS]],
            rejected={name(reason): count for reason, count in counted.items()},
            replaced=dict(self._replaced),
            examples={name(reason): sentence(self._examples[reason]) for reason in [*counted, *self._replaced]},
            suggestions=advice(seen, self._replaced, self._examples, self._hints, self._hiding),
            rows_read=self.rows_read,
        )

    def _named(self, text: str) -> str:
        return shortened(self._hiding.in_name(text))

    def _with_names(self, row: Row) -> Row:
        return {self._named(name): value for name, value in row.items()}
