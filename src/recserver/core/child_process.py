"""Processes of ours: they find the modules of the one that starts them, and do not outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def kill_with_parent(parent: int) -> None:
    """Ask the kernel, where it can, to kill this process as soon as the parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.name == "posix" and os.getppid() != parent:  # it was gone before the request
        os._exit(1)


def child_environment() -> dict[str, str]:
    """The environment variables of a process that finds the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
