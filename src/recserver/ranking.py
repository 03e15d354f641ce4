"""The best n of a vector of scores, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 64
"""Scores of which the largest is looked at first."""


def best(scores: NDArray[np.floating[Any]], n: int) -> NDArray[np.intp]:
    """The positions of the ``n`` highest scores, best first; equal ones by position.

    Args:
        scores: shape (items,). ``-inf`` marks items that are left out.
        n: at least 1; fewer positions come back where fewer items are left.
    """
    candidates = np.arange(len(scores)) if n >= len(scores) else _candidates(scores, n)
    reached = scores[candidates]
    order = np.argsort(-reached, kind="stable")[:n]  # candidates ascend, so ties stay by position
    found: NDArray[np.intp] = candidates[order[reached[order] > -np.inf]]
    return found


def _candidates(scores: NDArray[np.floating[Any]], n: int) -> NDArray[np.intp]:
    """Positions among which the ``n`` best are, all ties at the border included: a few times as many, ascending.

    The scores are laid out in rows, and the nth best of the columns' maxima is a lower bound for the nth best of
    all that few scores reach: two quick passes instead of a selection among all scores.
    """
    rows = min(MOST_ROWS, len(scores) // (4 * n))
    candidates: NDArray[np.intp] = np.arange(len(scores)) if rows < 2 else _above_maxima(scores, n, rows)
    if len(candidates) < 8 * n:
        return candidates
    reached = scores[candidates]
    nth = np.partition(reached, len(reached) - n)[len(reached) - n]
    reaching: NDArray[np.intp] = candidates[reached >= nth]
    return reaching


def _above_maxima(scores: NDArray[np.floating[Any]], n: int, rows: int) -> NDArray[np.intp]:
    columns = len(scores) // rows
    maxima = scores[: rows * columns].reshape(rows, columns).max(axis=0)  # across, which is quick
    maxima.partition(columns - n)
    reaching: NDArray[np.intp] = (scores >= maxima[columns - n]).nonzero()[0]
    return reaching
