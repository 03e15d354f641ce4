"""Item-item weights: what each interaction of a user says about other items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Neighbors:
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
    strengths: NDArray[np.float32]

    def scores(self, items: NDArray[np.int32], strengths: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores of all items, shape (items,), for somebody with these interactions.

        Args:
            items, strengths: shape (interactions,).
        """
        starts = self.indptr[items]
        lengths = self.indptr[items + 1] - starts
        ends = np.cumsum(lengths)
        places = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)
        weights = self.weights[places] * np.repeat(strengths, lengths)
        summed = np.bincount(self.indices[places], weights, minlength=len(self.indptr) - 1)
        return summed.astype(np.float32)
