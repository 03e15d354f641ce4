"""When a failed run is retried before its task's next due time."""

from __future__ import annotations

import random

from recserver._internal.training.active_run import RunResult

MAX_ATTEMPTS = 3
"""Attempts per due time, the first included, at a run that failed for a temporary reason."""

RETRY_DELAY = 10.0
"""Longest delay before the second attempt, in seconds; it doubles with every further attempt."""

MAX_CRASHES = 3
"""Consecutive crashes of a task's worker process after which a due time gets one attempt only."""


def retry_delay(result: RunResult, attempt: int, crashes: int) -> float | None:
    """Seconds before the next attempt; None if none is to be made.

    The delay is random, so that tasks that failed together are not retried together.

    Args:
        attempt: the number of the attempt that failed; the first of a due time is 1.
        crashes: consecutive crashes of the task's worker process.
    """
    if not result.transient or attempt >= MAX_ATTEMPTS or crashes >= MAX_CRASHES:
        return None
    if result.retry_after is not None:
        return result.retry_after
    return random.uniform(0, RETRY_DELAY * 2 ** (attempt - 1))  # noqa: S311 - not a secret
