"""What the conformance suite must be told of a data chef, and the ways in which it then uses the chef."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from recserver.chefs.lookup import load_chef_class
from recserver.chefs.protocol import Chef
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import SourceFailed
from recserver.testing.observed_chef import open_files, read
from recserver.training.jobs import Preview, PreviewJob, TrainingJob
from recserver.training.preview.source_preview import preview

BATCH_ROWS = 100

COLUMNS = "user_id", "item_id", "rating", "note"
FEW_ROWS = [(f"u{n}", f"i{n % 3}", n % 5 + 1, f"note {n}") for n in range(6)]
MANY_ROWS = [(f"u{n}", f"i{n % 7}", n % 5 + 1, "x" * 300) for n in range(12 * BATCH_ROWS)]
"""Of a usual width, so that chefs which count bytes come to about as many rows."""

Row = tuple[Any, ...]


class ChefUnderTest:
    """What there is to fill in: ``unusable``, ``missing`` and ``source``. The rest has defaults."""

    unusable: ClassVar[Sequence[Mapping[str, Any]]]
    """Entries that the chef must refuse: a key that is missing, a value that is wrong."""

    missing: ClassVar[Mapping[str, Any]]
    """A usable entry of a source that is not there: no such file, nobody listening at the address."""

    secret: ClassVar[str] = ""
    """The password or token in ``missing``, if the chef takes one: written out, of letters, digits and hyphens."""

    max_batch_rows: ClassVar[int] = 10 * BATCH_ROWS
    """Rows of a batch where about 100 are asked for. Raise it for a source that comes in larger pieces anyway."""

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[Row]) -> Mapping[str, Any]:
        """Make a source that holds these rows, or replace the last one; its entry.

        Values are text, whole numbers or None. A source that knows nothing but text holds numbers as text; a
        value of None is absent, or empty.
        """
        raise NotImplementedError("fill in source(): it makes a source and returns its entry")

    def policy(self, data_dir: Path) -> SourcePolicy:
        """What the chef may reach. Override it to allow more."""
        return SourcePolicy(data_dir=data_dir, batch_rows=BATCH_ROWS, source_timeout=20.0)

    def contact_count(self) -> int:
        """How often the source was contacted so far. Override it where Python cannot tell, as with C drivers."""
        return 0

    def open_handles(self) -> int:
        """How many connections or files are open. Override it where a count of this process's files is not it."""
        return open_files()

    def make(self, entry: Mapping[str, Any], data_dir: Path) -> Chef:
        """The chef of an entry, as a worker makes it."""
        return load_chef_class(str(entry["type"]))(entry, self.policy(data_dir))

    def make_few(self, data_dir: Path) -> Chef:
        """The chef of a source of few rows."""
        return self.make(self.source(data_dir, COLUMNS, FEW_ROWS), data_dir)

    def failure_message(self, entry: Mapping[str, Any], data_dir: Path) -> str:
        """What SourceFailed says when this source is read."""
        try:
            chef = self.make(entry, data_dir)
            read(chef, None)
        except SourceFailed as error:
            return str(error)
        except Exception as error:
            raise AssertionError(
                f"A missing source must raise SourceFailed when it is read, not {error!r}."
            ) from error
        raise AssertionError("A missing source must raise SourceFailed when it is read, and raised nothing.")

    def preview_job(self, entry: Mapping[str, Any], data_dir: Path) -> PreviewJob:
        """A look at the first two rows."""
        return PreviewJob(data_chef=dict(entry), policy=self.policy(data_dir), rows=2)

    def preview_of(self, entry: Mapping[str, Any], data_dir: Path) -> Preview:
        """What a look at the first two rows shows."""
        return preview(self.preview_job(entry, data_dir))

    def training_job(self, entry: Mapping[str, Any], data_dir: Path) -> TrainingJob:
        """A training from the source of an entry."""
        return TrainingJob(
            model_id="conformance",
            model_version=1,
            algorithm="nmf",
            hyperparameters={},
            data_chef_id="conformance",
            data_chef=dict(entry),
            policy=self.policy(data_dir),
            out=data_dir / "packed",
        )
