"""Data chefs: named sources of interactions. This front holds only what every chef has in common.

A chef is written synchronously and reads in batches: it runs in a worker process, never on the event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from recserver.specs.jobs import SourcePolicy

BATCH_ROWS = 50_000
"""Rows that a chef hands over at a time, about."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a source, column by column, before renaming.

    Attributes:
        found: names of all columns that the source has, as far as it has been read.
        columns: name → array of shape (rows,), for the wanted columns that the source has; values are text,
            numbers, None, or whatever the source holds, and are judged later. All arrays are equally long.
    """

    found: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]]

    @property
    def n_rows(self) -> int:
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

    def batches(self, wanted: Collection[str]) -> Iterator[Batch]:
        """Read the source once, from its beginning, in order. An empty source may yield an empty batch.

        Raises:
            SourceFailed: with the reason and what to do, never with a secret.
        """
        ...
