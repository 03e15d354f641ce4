"""The n highest of a vector of scores, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 64
"""The maximum size of a group of scores, whose maximum is computed first."""


def top_n(scores: NDArray[np.floating[Any]], n: int) -> NDArray[np.intp]:
    """The indices of the ``n`` highest scores, best first; equal scores by index.

    Args:
        scores: shape (items,). ``-inf`` excludes an item.
        n: at least 1; fewer indices are returned if fewer items remain.
    """
    candidates = top_candidates(scores, n)
    order = np.argsort(-scores[candidates], kind="stable")[:n]  # candidates ascend: ties stay in order
    best: NDArray[np.intp] = candidates[order]
    return best


def top_candidates(scores: NDArray[np.floating[Any]], n: int, margin: float = 0.0) -> NDArray[np.intp]:
    """The indices, ascending, of all scores at most ``margin`` below the nth highest, and of few others.

    The nth highest of the maxima of disjoint groups of scores is a lower bound of the nth highest score that few
    scores reach: two fast passes instead of a selection among all scores.

    Args:
        scores: shape (items,). ``-inf`` excludes an item.
        n: at least 1. If fewer items remain, all of them are returned.
    """
    low = float(nth_lower_bound(scores, n))
    candidates = _at_least(scores, low - margin)
    if len(candidates) < 2 * n:
        return candidates
    reached = scores[candidates]
    above = reached[reached > low]
    if len(above) < n:  # low is the nth highest; many scores may equal it, and a selection among them is slow
        return candidates
    nth = np.partition(above, len(above) - n)[len(above) - n]
    return candidates[_at_least(reached, float(nth) - margin)]


def _at_least(scores: NDArray[np.floating[Any]], floor: float) -> NDArray[np.intp]:
    lowest = float(np.finfo(scores.dtype).min)  # a lower floor would overflow to -inf
    indices: NDArray[np.intp] = (scores >= floor if floor >= lowest else scores > -np.inf).nonzero()[0]
    return indices


def nth_lower_bound(scores: NDArray[np.floating[Any]], n: int) -> NDArray[Any]:
    """A lower bound of the nth highest score of each row: the nth highest of the maxima of disjoint groups.

    Args:
        scores: shape (..., items).
        n: at least 1.

    Returns:
        Shape (...); ``-inf`` if there are too few items for groups.
    """
    *others, items = scores.shape
    rows = min(MAX_ROWS, items // (4 * n))
    if rows <= 1:
        return np.full(others, -np.inf, scores.dtype)
    columns = items // rows
    maxima = scores[..., : rows * columns].reshape(*others, rows, columns).max(axis=-2)  # strided: vectorised
    maxima.partition(columns - n, axis=-1)
    nth: NDArray[Any] = maxima[..., columns - n]
    return nth
