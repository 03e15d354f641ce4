"""Fixtures that run the command line, in this process and as processes of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.helpers.cli_call import Command, call
from tests.helpers.cli_process import Start, killed_at_exit
from tests.helpers.cli_service import Serve, Service, service_of
from tests.helpers.pids import take_interrupts


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs ``recserver ARGUMENTS`` in the temporary folder, within this process."""
    return partial(call, tmp_path)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts ``recserver ARGUMENTS`` in a temporary folder; what still runs at the end is killed."""
    # Removes temporary files of killed processes too; sockets need a folder with a short name.
    with TemporaryDirectory() as temporary_folder:
        async with killed_at_exit() as started:

            async def run(*arguments: str, **environment: str) -> Process:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "recserver", *arguments, cwd=tmp_path, process_group=0,
                    stdout=PIPE, stderr=PIPE, preexec_fn=take_interrupts,
                    env={
                        **os.environ, "RECSERVER_LOG_FORMAT": "console", "TMPDIR": temporary_folder, **environment,
                    },
                )  # fmt: skip
                started.append(process)
                return process

            yield run


@pytest.fixture
async def serve(start: Start) -> AsyncIterator[Serve]:
    """Starts ``recserver serve`` for the folder ``data`` on a free port; returns once all processes answer."""
    async with AsyncExitStack() as stack:

        async def start_service(workers: int, *arguments: str, **environment: str) -> Service:
            command = ("serve", "--port", "0", "--workers", str(workers), *arguments)
            return await service_of(await start(*command, **environment), stack)

        yield start_service
