"""The memory limit of one training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def limit_memory(mebibytes: int | None) -> Iterator[None]:
    """Limit the additional memory that this process may take while the block lasts.

    An allocation beyond the limit raises MemoryError, or aborts the process in a library that does not handle it.
    Only writable memory counts, not files mapped for reading. On other systems than Linux there is no limit.
    """
    if mebibytes is None or sys.platform != "linux":
        yield
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = taken + mebibytes * 2**20
    if before[1] != resource.RLIM_INFINITY:
        limit = min(limit, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
