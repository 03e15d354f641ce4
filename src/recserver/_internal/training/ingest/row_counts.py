"""Counts of the rows of a source: how many were read, used, rejected and replaced, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from recserver._internal.chefs.protocol import Batch
from recserver._internal.training.ingest.row_validation import ValidatedBatch

OTHER_REASONS = "other reasons"
"""What rows are counted under once there are as many reasons as a report may have."""


class RowCounts:
    """Counts the rows of a source. ``rows_read`` is always ``rows_kept`` and all of ``rejected`` together.

    Attributes:
        column_names: names of all columns of the source.
        hints: hints of the chef about its source, one sentence each.
        rows_read, n_bytes: so far.
        rows_kept: rows that were used; the caller that uses them adds to it.
        rejected: rows left out, by reason.
        replaced: rows that are used with a rating of 1 because theirs is not a number, by reason.
        examples: one row of each reason.
    """

    def __init__(self, max_reasons: int | None = None) -> None:
        self._max_reasons = max_reasons
        self.column_names: tuple[str, ...] = ()
        self.hints: dict[str, None] = {}
        self.rejected: Counter[str] = Counter()
        self.replaced: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.rows_read = self.rows_kept = self.n_bytes = 0

    def add(self, batch: Batch) -> None:
        """Count the rows of a batch, and those that its chef rejected."""
        self.column_names = batch.column_names or self.column_names
        self.hints.update(dict.fromkeys(batch.hints))
        self.n_bytes += batch.n_bytes
        self.rows_read += batch.n_rows + sum(rejection.count for rejection in batch.rejected)
        for rejection in batch.rejected:
            self.reject(f"the row {rejection.reason}", rejection.count, rejection.example)

    def add_errors(self, validated: ValidatedBatch) -> None:
        """Count the rows that the validation of a batch rejected or changed."""
        for error in validated.errors:
            self.reject(error.reason, len(error.rows), error.example)
        for error in validated.replaced:
            self.replaced[error.reason] += len(error.rows)
            self.examples.setdefault(error.reason, error.example)

    def reject(self, reason: str, count: int, example: str) -> None:
        """Count rows that are left out."""
        if self._max_reasons is not None and reason not in self.rejected:
            reason = reason if len(self.rejected) < self._max_reasons else OTHER_REASONS
        self.rejected[reason] += count
        self.examples.setdefault(reason, example)

    def report(self, redact_reason: Callable[[str], str], redact_example: Callable[[str], str]) -> dict[str, Any]:
        """``rejected``, ``replaced`` and ``examples`` without secrets. Reasons that become equal are added up."""
        rejected, replaced = Counter[str](), Counter[str]()
        for redacted, counts in ((rejected, self.rejected), (replaced, self.replaced)):
            for reason, count in counts.items():
                redacted[redact_reason(reason)] += count
        examples: dict[str, str] = {}
        for reason in [*self.rejected, *self.replaced]:
            examples.setdefault(redact_reason(reason), redact_example(self.examples[reason]))
        return {"rejected": dict(rejected), "replaced": dict(replaced), "examples": examples}

    def no_rows_message(self, what: str = "is usable") -> str:
        """Why there is nothing to learn from a source that lacks no column."""
        if not self.rows_read:
            return "The source holds no rows. Check the path, query or address of the data chef."
        reasons = "; ".join(
            f"{reason}: {count}" + (f", such as {example}" if (example := self.examples[reason]) else "")
            for reason, count in self.rejected.items()
        )
        return f"None of the {self.rows_read} rows {what} ({reasons}). Correct the data or the data chef."
