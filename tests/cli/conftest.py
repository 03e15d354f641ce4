"""Fixtures that run the command line, in this process and as processes of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.cli_call import Command, call
from tests.helpers.cli_process import Start, starter
from tests.helpers.cli_service import Serve, server_starter


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs ``recserver ARGUMENTS`` in the temporary folder, within this process."""
    return partial(call, tmp_path)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts ``recserver ARGUMENTS`` in the temporary folder; what still runs at the end is killed."""
    async with starter(tmp_path) as start:
        yield start


@pytest.fixture
async def serve(start: Start) -> AsyncIterator[Serve]:
    """Starts ``recserver serve`` for the folder ``data`` on a free port; returns once all processes answer."""
    async with server_starter(start) as serve:
        yield serve
