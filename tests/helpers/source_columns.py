"""Columns as chefs hand them over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.chefs.protocol import Batch
from recserver._internal.chefs.row_rules import row_rules
from recserver._internal.training.ingest.interactions_builder import InteractionsBuilder


def column(*values: object) -> NDArray[Any]:
    """``values`` as chefs hand them over, nested ones included."""
    return np.fromiter(values, object, count=len(values))


def batch(**columns: Any) -> Batch:
    """A batch; lists become columns of objects."""
    named = {name: column(*one) if isinstance(one, list) else one for name, one in columns.items()}
    return Batch(tuple(named), named)


def built(*batches: Batch, **entry: Any) -> tuple[Interactions, dict[str, int]]:
    """What comes of some batches under the rules of ``entry``."""
    builder = InteractionsBuilder(row_rules(entry))
    for one in batches:
        builder.add(one)
    return builder.build(), dict(builder.counts.rejected)


def pairs(interactions: Interactions, values: NDArray[Any] | None = None) -> dict[tuple[str, str], float]:
    """User and item → rating, or what else is told of pairs."""
    told = interactions.ratings if values is None else values
    rows = np.repeat(interactions.users, np.diff(interactions.indptr))
    items = [interactions.items[place] for place in interactions.indices]
    return dict(zip(zip(rows.tolist(), items, strict=True), told.tolist(), strict=True))
