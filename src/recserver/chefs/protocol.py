"""Data chefs: named sources of interactions. This front holds only what every chef has in common.

A chef is written synchronously and reads in batches: it runs in a worker process, never on the event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

from recserver.chefs.source_policy import SourcePolicy

if TYPE_CHECKING:
    import pyarrow as pa

Column: TypeAlias = "NDArray[Any] | pa.Array | pa.ChunkedArray"
"""The values of one column: a numpy array of shape (rows,), or an Arrow array of as many.

Numpy arrays of objects may hold text, numbers, None, or whatever the source holds. Arrow columns are the quick
way, above all dictionary-encoded text: then each distinct id is looked at once.
"""


class RestartRead(Exception):
    """Raised by a chef in the middle of its rows: forget them, and read from the beginning, once more.

    A quick way through a source may find out late that it is none.
    """


@dataclass(frozen=True, slots=True)
class Rejection:
    """Rows that a chef leaves out by itself, for they are no rows: ragged ones, things that are no objects.

    Attributes:
        reason: what is wrong with them, to be read after "the row": ``has more fields than the header``.
        count: how many.
        example: one of them, shortened, or where it stands; "" if there is none to show.
    """

    reason: str
    count: int = 1
    example: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a source, column by column, before renaming.

    Attributes:
        found: names of all columns that the source has, as far as it has been read.
        columns: name → its values, for the wanted columns that the source has; they are judged later. All are
            equally long.
        n_bytes: how much of the source was read for these rows, in bytes as they came (compressed ones count
            as such); 0 if nobody knows.
        rejected: rows that were read but are not in ``columns``.
        hints: what whoever wrote the data chef should know, a sentence each.
    """

    column_names: tuple[str, ...]
    columns: Mapping[str, Column]
    n_bytes: int = 0
    rejected: tuple[Rejection, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def n_rows(self) -> int:
        """Rows in ``columns``."""
        return len(next(iter(self.columns.values()))) if self.columns else 0


class Chef(Protocol):
    """One source, as its entry in ``restaurant_data.yaml`` describes it."""

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        """Check the definition without contacting the source.

        Raises:
            InvalidInput: if the entry cannot be used, or asks for what the policy forbids.
        """
        ...

    def warnings(self) -> list[str]:
        """What would make a training fail as things are now: a missing file or driver. A sentence each."""
        ...

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        """Read the source once, from its beginning, in order. An empty source may yield an empty batch.

        Args:
            wanted: names of the columns to read; None means all of them. Names that the source lacks are no
                error.

        Batches hold about ``policy.batch_rows`` rows; whoever has seen enough closes the iterator, and the
        source must be let go then.

        Raises:
            SourceFailed: with the reason and what to do, never with a secret.
        """
        ...


@runtime_checkable
class ConditionalChef(Protocol):
    """A chef that can ask its source whether anything changed."""

    validators: dict[str, str]
    """Before reading: what an earlier reading of the same definition left here; empty if there was none. A chef
    whose source answers that nothing changed since raises SourceUnchanged. After reading: what to keep."""
