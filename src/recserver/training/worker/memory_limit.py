"""How much memory one training may take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def limit_memory(mebibytes: int | None) -> Iterator[None]:
    """Let this process take so much more memory than it has now, for as long as the block lasts.

    What asks for more gets a MemoryError, or dies if it cannot bear one. What counts is memory that may be
    written, files mapped for reading do not. Only Linux does this; elsewhere there is no limit.
    """
    if mebibytes is None or sys.platform != "linux":
        yield
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = taken + mebibytes * 2**20
    if before[1] != resource.RLIM_INFINITY:
        most = min(most, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
