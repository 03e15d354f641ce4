"""The best n of a vector of scores, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 64
"""Scores of which the largest is looked at first."""


def top_n(scores: NDArray[np.floating[Any]], n: int) -> NDArray[np.intp]:
    """The positions of the ``n`` highest scores, best first; equal ones by position.

    Args:
        scores: shape (items,). ``-inf`` marks items that are left out.
        n: at least 1; fewer positions come back where fewer items are left.
    """
    candidates = top_candidates(scores, n)
    order = np.argsort(-scores[candidates], kind="stable")[:n]  # candidates ascend, so ties stay by position
    found: NDArray[np.intp] = candidates[order]
    return found


def top_candidates(scores: NDArray[np.floating[Any]], n: int, margin: float = 0.0) -> NDArray[np.intp]:
    """The positions, ascending, of all scores at most ``margin`` below the nth highest, and of few others.

    The scores are laid out in rows, and the nth best of the columns' maxima is a lower bound for the nth best of
    all that few scores reach: two quick passes instead of a selection among all scores.

    Args:
        scores: shape (items,). ``-inf`` marks items that are left out: they never come.
        n: at least 1. Where fewer items are left, all of them come.
    """
    low = float(nth_lower_bound(scores, n))
    candidates = _at_least(scores, low - margin)
    if len(candidates) < 2 * n:
        return candidates
    reached = scores[candidates]
    above = reached[reached > low]
    if len(above) < n:  # it is the nth highest; as many may score the same, a selection among them would be slow
        return candidates
    nth = np.partition(above, len(above) - n)[len(above) - n]
    return candidates[_at_least(reached, float(nth) - margin)]


def _at_least(scores: NDArray[np.floating[Any]], floor: float) -> NDArray[np.intp]:
    lowest = float(np.finfo(scores.dtype).min)  # a floor below it is none, and has no place among the scores
    found: NDArray[np.intp] = (scores >= floor if floor >= lowest else scores > -np.inf).nonzero()[0]
    return found


def nth_lower_bound(scores: NDArray[np.floating[Any]], n: int) -> NDArray[Any]:
    """At most the nth highest of each row: the nth highest of the maxima of a few scores each, or ``-inf``.

    Args:
        scores: shape (..., items).
        n: at least 1.

    Returns:
        Shape (...); ``-inf`` where there are too few items for it to say anything.
    """
    *others, items = scores.shape
    rows = min(MAX_ROWS, items // (4 * n))
    if rows <= 1:
        return np.full(others, -np.inf, scores.dtype)
    columns = items // rows
    # across, which is quick
    maxima = scores[..., : rows * columns].reshape(*others, rows, columns).max(axis=-2)
    maxima.partition(columns - n, axis=-1)
    nth: NDArray[Any] = maxima[..., columns - n]
    return nth
