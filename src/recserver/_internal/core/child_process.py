"""Child processes: they import the same modules as their parent, and do not outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def kill_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.name == "posix" and os.getppid() != parent:  # the parent ended before the request
        os._exit(1)


def child_environment() -> dict[str, str]:
    """The environment variables for a child process that imports the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
