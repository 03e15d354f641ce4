"""The ids of runs."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from itertools import count


def run_id_prefix(moment: datetime) -> str:
    """The beginning of the ids of runs created at ``moment``. Ids sort by time."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03}"


def new_run_id(now: datetime) -> str:
    """A unique id. Ids of one process sort in the order of creation, even within a millisecond."""
    return f"{run_id_prefix(now)}-{next(_COUNT) % 2**24:06x}{secrets.token_hex(3)}"


_COUNT = count()
