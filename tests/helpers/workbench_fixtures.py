"""Servers whose clock and trainings the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from recserver import Settings
from tests.helpers.workbench import Workbench


@pytest.fixture
async def spawn() -> AsyncIterator[Callable[..., None]]:
    """Run coroutines concurrently with the test; those still running at its end are cancelled."""
    tasks: list[asyncio.Task[None]] = []

    def start(*works: Coroutine[Any, Any, None]) -> None:
        tasks.extend(asyncio.ensure_future(work) for work in works)

    yield start
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


@pytest.fixture
async def bench(data_dir: Path, settings: Settings) -> AsyncIterator[Workbench]:
    """An open server on a fake clock, with scripted trainings, model ``m`` and data chef ``c``."""
    async with AsyncExitStack() as stack:
        yield await Workbench.open(stack, data_dir, settings)
