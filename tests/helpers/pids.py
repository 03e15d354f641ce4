"""Ways to see processes come and go without sleeping."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path


def lives(pid: int) -> bool:
    """Whether there is such a process; a dead child that nobody has waited for counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def ended(pid: int, seconds: float = 2) -> None:
    """Return once a process has ended; fail after ``seconds``."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, end.set)
    try:
        await asyncio.wait_for(end.wait(), seconds)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def children_of(parent: int | str) -> set[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{parent}/task").glob("*/children")
    return {int(pid) for file in found for pid in file.read_text().split()}


def take_interrupts() -> None:
    """For ``preexec_fn`` of a process that is to be interrupted, which in the background it might not be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
