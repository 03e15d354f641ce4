"""The interface of data chefs, which read sources of interactions.

A chef is synchronous and reads in batches: it runs in a worker process, never on the event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

from recserver._internal.chefs.source_policy import SourcePolicy

ArrowArray: TypeAlias = Any
"""A ``pyarrow.Array`` or ``ChunkedArray``: pyarrow has no types, and so would be unknown to type checkers."""

Column: TypeAlias = NDArray[Any] | ArrowArray
"""The values of one column: a numpy array of shape (rows,), or an Arrow array of as many.

Numpy arrays of objects may hold text, numbers, None, or any other value of the source. Arrow columns are faster,
dictionary-encoded text above all: then each distinct id is parsed once.
"""


class RestartRead(Exception):
    """Raised by a chef while it reads: discard its rows, and read once more from the beginning.

    A fast path may turn out only late to be unsuitable for a source.
    """


@dataclass(frozen=True, slots=True)
class Rejection:
    """Rows that a chef itself rejects, such as ragged rows or JSON values that are not objects.

    Attributes:
        reason: what is wrong, as it reads after "the row": ``has more fields than the header``.
        count: number of rows.
        example: one of them, shortened, or its location; "" if unknown.
    """

    reason: str
    count: int = 1
    example: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a source, column by column, before renaming.

    Attributes:
        column_names: all columns of the source that are known so far.
        columns: name → values, for the requested columns that the source has, not yet validated. All have the same
            length.
        n_bytes: bytes of the source that were read for these rows, before decompression; 0 if unknown.
        rejected: rows that were read but are not in ``columns``.
        hints: advice for the author of the data chef, a sentence each.
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
    """Reads one source, described by an entry of ``restaurant_data.yaml``."""

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        """Validate the entry without contacting the source.

        Raises:
            InvalidInput: if the entry is invalid, or violates the policy.
        """
        ...

    def warnings(self) -> list[str]:
        """Problems that would make a training fail now, such as a missing file or driver; a sentence each."""
        ...

    def batches(self, requested: Collection[str] | None) -> Iterator[Batch]:
        """Read the source once, from its beginning, in order. An empty source may yield an empty batch.

        Args:
            requested: names of the columns to read; None means all of them. Missing columns are not an error.

        Batches have about ``policy.batch_rows`` rows. A caller that stops early closes the iterator, which must
        release the source.

        Raises:
            SourceFailed: with the reason and the remedy; its message must not contain secrets.
        """
        ...


@runtime_checkable
class ConditionalChef(Protocol):
    """A chef that can ask its source whether its data changed."""

    validators: dict[str, str]
    """Before a read: the validators of an earlier read of the same entry; empty if there was none. If the
    source reports no changes since, the chef raises SourceUnchanged. After a read: the validators to store."""
