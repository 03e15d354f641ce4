"""When a failed run is tried again within its period."""

from __future__ import annotations

import random

from recserver.training.run import RunResult

TRIES = 3
"""Runs in one period, the first included, while what fails may be over in a moment."""

LONGEST_WAIT = 10.0
"""Seconds before the second attempt, at most; before the third at most twice as many."""

MAX_CRASHES = 3
"""Worker processes that died one after the other; then a task is tried once in each period only."""


def seconds_before_retry(outcome: RunResult, attempt: int, crashes: int, lot: random.Random) -> float | None:
    """Seconds before another attempt, if one may help, drawn by lot so that tasks do not come together.

    Args:
        attempt: the one that failed; 1 is the first of a period.
        crashes: worker processes of the task that died one after the other.
    """
    if not outcome.transient or attempt >= TRIES or crashes >= MAX_CRASHES:
        return None
    if outcome.retry_after is not None:
        return outcome.retry_after
    return lot.uniform(0, LONGEST_WAIT * 2 ** (attempt - 1))
