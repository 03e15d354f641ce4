"""Output of commands that run as processes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.helpers.pids import take_interrupts

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


@asynccontextmanager
async def starter(folder: Path) -> AsyncIterator[Start]:
    """Starts ``recserver ARGUMENTS`` in a folder; what still runs at the end is killed."""
    # Removes temporary files of killed processes too; sockets need a folder with a short name.
    with TemporaryDirectory() as temporary_folder:
        async with killed_at_exit() as started:

            async def start(*arguments: str, **environment: str) -> Process:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "recserver", *arguments, cwd=folder, process_group=0,
                    stdout=PIPE, stderr=PIPE, preexec_fn=take_interrupts,
                    env={
                        **os.environ, "RECSERVER_LOG_FORMAT": "console", "TMPDIR": temporary_folder, **environment,
                    },
                )  # fmt: skip
                started.append(process)
                return process

            yield start
