"""The best n of a vector of scores, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
"""Scores that are looked at through their maximum first."""


def best(scores: NDArray[np.floating[Any]], n: int) -> NDArray[np.intp]:
    """The positions of the ``n`` highest scores, best first; equal ones by position.

    Args:
        scores: shape (items,). ``-inf`` marks items that are left out.
        n: at least 1; fewer positions come back where fewer items are left.
    """
    candidates = np.arange(len(scores)) if n >= len(scores) else _at_least_nth(scores, n)
    candidates = candidates[scores[candidates] > -np.inf]
    order = np.argsort(-scores[candidates], kind="stable")  # candidates ascend, so ties stay by position
    return candidates[order][:n]


def _at_least_nth(scores: NDArray[np.floating[Any]], n: int) -> NDArray[np.intp]:
    """Every position that scores at least as much as the nth best: all ties at the border included.

    The nth best of the blocks' maxima is a lower bound for the nth best of all, and few scores reach it: one pass
    instead of a selection among all scores.
    """
    blocks = len(scores) // BLOCK
    candidates: NDArray[np.intp] = np.arange(len(scores))
    if blocks > n:
        maxima = scores[: blocks * BLOCK].reshape(blocks, BLOCK).max(axis=1)
        candidates = np.flatnonzero(scores >= np.partition(maxima, blocks - n)[blocks - n])
    reached = scores[candidates]
    nth = np.partition(reached, len(reached) - n)[len(reached) - n]
    reaching: NDArray[np.intp] = candidates[reached >= nth]
    return reaching
