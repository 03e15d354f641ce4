"""Memory of processes, in MiB."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_mib() -> float:
    """The peak resident memory of this process.

    On Linux, ``ru_maxrss`` includes what the parent process had before the fork, so ``VmHWM`` is preferred.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def smaps_mib(pid: int, *fields: str) -> float:
    """The sum of some fields of ``/proc/PID/smaps_rollup``, such as ``Pss``, the proportional set size."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in fields) / 2**10
