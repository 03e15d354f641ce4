"""Item-item weights: how each interaction of a user scores other items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ItemItemWeights:
    """A sparse matrix S of item-item weights, and the confidences of the training's interactions.

    With z the confidences of a user's interactions, the score of item ``i`` is ``sum over j of z[j] * S[j, i]``.

    Attributes:
        indptr: int64, shape (items + 1,): row ``j``, the items that an interaction with ``j`` scores, is
            ``indices[indptr[j]:indptr[j + 1]]``.
        indices: int32, shape (weights,): items, ascending within a row.
        weights: float32, shape (weights,).
        confidences: float32, shape (pairs,): one per pair of the interactions, in their order.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    confidences: NDArray[np.float32]

    def scores(self, items: NDArray[np.int32], confidences: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores of all items, shape (items,), for a user with these interactions.

        Args:
            items, confidences: shape (interactions,).
        """
        scores = np.zeros(len(self.indptr) - 1, np.float32)
        self.add_scores(scores, items, confidences)
        return scores

    def add_scores(
        self, scores: NDArray[np.float32], items: NDArray[np.int32], confidences: NDArray[np.float32]
    ) -> None:
        """Add the scores from these interactions to ``scores``, shape (items,), in place."""
        entries, lengths = self._entries(items)
        np.add.at(scores, self.indices[entries], self.weights[entries] * np.repeat(confidences, lengths))

    def row(self, item: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The items that an interaction with ``item`` scores, and their weights."""
        entries = slice(self.indptr[item], self.indptr[item + 1])
        return self.indices[entries], self.weights[entries]

    def shares(
        self, items: NDArray[np.int32], confidences: NDArray[np.float32], targets: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """What each interaction adds to the scores of some items, shape (interactions, targets).

        Args:
            items, confidences: shape (interactions,).
            targets: distinct indices of items, shape (targets,).
        """
        entries, lengths = self._entries(items)
        columns = np.full(len(self.indptr) - 1, -1, np.int32)
        columns[targets] = np.arange(len(targets), dtype=np.int32)
        column = columns[self.indices[entries]]
        rows, is_target = np.repeat(np.arange(len(items)), lengths), column >= 0
        shares = np.zeros((len(items), len(targets)))
        shares[rows[is_target], column[is_target]] = (
            self.weights[entries[is_target]] * confidences[rows[is_target]]
        )
        return shares

    def _entries(self, items: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The positions in ``weights`` of some rows, one after the other, and the length of each row."""
        starts = self.indptr[items]
        lengths = self.indptr[items + 1] - starts
        ends = np.cumsum(lengths)
        return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0), lengths
