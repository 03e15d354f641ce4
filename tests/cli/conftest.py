"""The command line in processes of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from commands import Start, killed_at_the_end


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts ``recserver ARGUMENTS`` in a folder of its own; whatever still runs at the end is killed."""
    async with killed_at_the_end() as started:

        async def run(*arguments: str, **environment: str) -> Process:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "recserver", *arguments, cwd=tmp_path, stdout=PIPE, stderr=PIPE,
                env={**os.environ, "RECSERVER_LOG_FORMAT": "console", **environment},
            )  # fmt: skip
            started.append(process)
            return process

        yield run
