"""Output of commands that run as processes."""

from __future__ import annotations

import re
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Start = Callable[..., Awaitable[Process]]
"""Starts ``recserver ARGUMENTS``."""


async def line_with(process: Process, text: str) -> str:
    """The first line on standard error that contains ``text``; a failure shows the lines before it."""
    assert process.stderr is not None
    before = []
    while line := (await process.stderr.readline()).decode():
        if text in line:
            return line
        before.append(line)
    raise AssertionError(f"{text!r} was not printed: {''.join(before)}")


async def url_of(process: Process) -> str:
    """The address that a starting server reports."""
    url = re.search(r"http://\S+[0-9]", await line_with(process, "listens on"))
    assert url
    return url.group()


@asynccontextmanager
async def killed_at_exit() -> AsyncIterator[list[Process]]:
    """A list of processes; those that still run at the end are killed."""
    started: list[Process] = []
    yield started
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()
