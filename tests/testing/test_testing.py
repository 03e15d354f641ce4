"""What ``recserver.testing`` gives to tests."""

from __future__ import annotations

import asyncio

import pytest

from recserver.testing import FakeClock


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_of_who_waits_by_the_clock_is_never_lost(turns: int) -> None:
    clock = FakeClock()
    waiting = asyncio.create_task(clock.wait(asyncio.Event(), clock.monotonic() + 1))
    await clock.settle()
    moving = asyncio.create_task(clock.suspend(2))
    while clock.deadlines:  # until it is woken
        await asyncio.sleep(0)
    for _ in range(turns):  # somewhere between that and its return
        await asyncio.sleep(0)
    was_heard = waiting.cancel()
    await asyncio.wait((waiting,))
    assert waiting.cancelled() == was_heard
    await moving


async def test_a_second_cancellation_does_no_harm() -> None:
    clock = FakeClock()
    waiting = asyncio.create_task(clock.wait(asyncio.Event(), clock.monotonic() + 1))
    await clock.settle()
    waiting.cancel()
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert waiting.cancelled() and clock.deadlines == []
