"""Item-item weights: what each interaction of a user says about other items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ItemItemWeights:
    """A sparse matrix S of item-item weights, and how much each interaction counts.

    With z the strengths of a user's interactions, the score of item ``i`` is ``sum over j of z[j] * S[j, i]``.

    Attributes:
        indptr: int64, shape (items + 1,): row ``j``, what an interaction with ``j`` speaks for, is
            ``indices[indptr[j]:indptr[j + 1]]``.
        indices: int32, shape (weights,): items, ascending within a row.
        weights: float32, shape (weights,).
        strengths: float32, shape (pairs,): one for each pair of the interactions, in their order.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    confidences: NDArray[np.float32]

    def scores(self, items: NDArray[np.int32], confidences: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores of all items, shape (items,), for somebody with these interactions.

        Args:
            items, strengths: shape (interactions,).
        """
        scores = np.zeros(len(self.indptr) - 1, np.float32)
        self.add_scores(scores, items, confidences)
        return scores

    def add_scores(
        self, scores: NDArray[np.float32], items: NDArray[np.int32], confidences: NDArray[np.float32]
    ) -> None:
        """Add to ``scores``, shape (items,), what these interactions say; other scores are not touched."""
        places, lengths = self._entries(items)
        np.add.at(scores, self.indices[places], self.weights[places] * np.repeat(confidences, lengths))

    def row(self, item: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The items that an interaction with one speaks for, and by which weights."""
        own = slice(self.indptr[item], self.indptr[item + 1])
        return self.indices[own], self.weights[own]

    def shares(
        self, items: NDArray[np.int32], confidences: NDArray[np.float32], targets: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """What each interaction adds to the scores of some items, shape (interactions, number of ``of``).

        Args:
            items, strengths: shape (interactions,).
            of: distinct places of items.
        """
        places, lengths = self._entries(items)
        columns = np.full(len(self.indptr) - 1, -1, np.int32)
        columns[targets] = np.arange(len(targets), dtype=np.int32)
        column = columns[self.indices[places]]
        rows, there = np.repeat(np.arange(len(items)), lengths), column >= 0
        shares = np.zeros((len(items), len(targets)))
        shares[rows[there], column[there]] = self.weights[places[there]] * confidences[rows[there]]
        return shares

    def _entries(self, items: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the weights of some rows stand, one row after the other, and how many each has."""
        starts = self.indptr[items]
        lengths = self.indptr[items + 1] - starts
        ends = np.cumsum(lengths)
        return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0), lengths
