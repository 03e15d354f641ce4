"""What an author specifies about a data chef for the conformance suite, and how the suite uses the chef."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from recserver._internal.chefs.lookup import load_chef_class
from recserver._internal.chefs.protocol import Chef
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed
from recserver._internal.training.jobs import PreviewJob, TrainingJob
from recserver.testing._checks import must_raise
from recserver.testing._observed_chef import open_files, read

BATCH_ROWS = 100

COLUMNS = "user_id", "item_id", "rating", "note"
FEW_ROWS = [(f"u{n}", f"i{n % 3}", n % 5 + 1, f"note {n}") for n in range(6)]
MANY_ROWS = [(f"u{n}", f"i{n % 7}", n % 5 + 1, "x" * 300) for n in range(12 * BATCH_ROWS)]
"""Rows of a typical width, so that chefs that count bytes yield batches of about as many rows."""

Row = tuple[Any, ...]


class ChefUnderTest:
    """Fill in ``unusable``, ``missing`` and ``source``. Everything else has a default."""

    unusable: ClassVar[Sequence[Mapping[str, Any]]]
    """Entries that the chef must refuse: with a missing key, or a wrong value."""

    missing: ClassVar[Mapping[str, Any]]
    """A valid entry of a source that does not exist: no such file, no server at the address."""

    secret: ClassVar[str] = ""
    """The password or token in ``missing``, if the chef takes one: in clear, of letters, digits and hyphens."""

    max_batch_rows: ClassVar[int] = 10 * BATCH_ROWS
    """Maximum rows of a batch when 100 are requested. Raise it for a source that delivers larger pieces."""

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[Row]) -> Mapping[str, Any]:
        """Create a source with these rows, or replace the last one, and return its entry.

        Values are text, integers or None. A source that can only hold text holds numbers as text; None is a
        missing or empty value.
        """
        raise NotImplementedError("fill in source(): it creates a source and returns its entry")

    def policy(self, data_dir: Path) -> SourcePolicy:
        """What the chef may access. Override it to allow more."""
        return SourcePolicy(data_dir=data_dir, batch_rows=BATCH_ROWS, source_timeout=20.0)

    def contact_count(self) -> int:
        """How often the source was contacted. Override it if Python does not see that, as with C drivers."""
        return 0

    def open_handles(self) -> int:
        """The number of open connections or files. Override it if they are not open files of this process."""
        return open_files()

    def make(self, entry: Mapping[str, Any], data_dir: Path) -> Chef:
        """The chef of an entry, as a worker creates it."""
        return load_chef_class(str(entry["type"]))(entry, self.policy(data_dir))

    def make_few(self, data_dir: Path) -> Chef:
        """The chef of a source with few rows."""
        return self.make(self.source(data_dir, COLUMNS, FEW_ROWS), data_dir)

    def failure_message(self, entry: Mapping[str, Any], data_dir: Path) -> str:
        """The message of SourceFailed when this source is read."""
        with must_raise(SourceFailed, "A missing source must raise SourceFailed when it is read") as raised:
            read(self.make(entry, data_dir), None)
        return raised.message

    def preview_job(self, entry: Mapping[str, Any], data_dir: Path) -> PreviewJob:
        """A preview of the first two rows."""
        return PreviewJob(data_chef=dict(entry), policy=self.policy(data_dir), rows=2)

    def training_job(self, entry: Mapping[str, Any], data_dir: Path) -> TrainingJob:
        """A training from the source of an entry."""
        return TrainingJob(
            model_id="conformance", model_version=1, algorithm="nmf", hyperparameters={},
            data_chef_id="conformance", data_chef=dict(entry), policy=self.policy(data_dir),
            out=data_dir / "packed",
        )  # fmt: skip
