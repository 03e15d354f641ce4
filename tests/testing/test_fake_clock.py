"""The clock that tests move by hand: it stands still otherwise, and steps through every deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from recserver._internal.core.clock import SystemClock
from recserver.testing import FakeClock


async def test_waiters_wake_in_the_order_of_their_deadlines(spawn: Callable[..., None]) -> None:
    clock, never = FakeClock(), asyncio.Event()
    begun, woken = clock.monotonic(), list[tuple[str, float]]()

    async def wait(name: str, seconds: float, again: float | None = None) -> None:
        assert not await clock.wait(never, begun + seconds)
        woken.append((name, clock.monotonic() - begun))
        if again is not None:
            await wait(f"{name} again", again)

    spawn(wait("late", 9), wait("first", 2, again=4), wait("second", 3), wait("too late", 11))
    await clock.advance(10)
    assert woken == [("first", 2), ("second", 3), ("first again", 4), ("late", 9)]
    assert clock.monotonic() == begun + 10


async def test_an_event_ends_the_wait_and_time_stands_still(spawn: Callable[..., None]) -> None:
    clock, event = FakeClock(), asyncio.Event()
    begun, answers = clock.monotonic(), list[bool]()

    async def wait() -> None:
        answers.append(await clock.wait(event, begun + 5))

    spawn(wait())
    await clock.settle()
    assert clock.deadlines == [begun + 5]
    event.set()
    await clock.settle()
    assert (answers, clock.deadlines, clock.monotonic()) == ([True], [], begun)


async def test_settling_waits_for_file_access_and_what_follows_from_it(
    spawn: Callable[..., None], tmp_path: Path
) -> None:
    clock, steps = FakeClock(), list[str]()

    async def work() -> None:
        for number in range(20):
            await asyncio.to_thread((tmp_path / "file").write_text, str(number))
            steps.append(await asyncio.to_thread((tmp_path / "file").read_text))

    spawn(work())
    await clock.settle()
    assert len(steps) == 20


async def test_a_suspended_machine_wakes_everybody_at_once(spawn: Callable[..., None]) -> None:
    clock, never, woken = FakeClock(), asyncio.Event(), list[float]()
    begun = clock.monotonic()

    async def wait(seconds: float) -> None:
        await clock.wait(never, begun + seconds)
        woken.append(clock.monotonic() - begun)

    spawn(wait(1), wait(50))
    await clock.suspend(100)
    assert woken == [100, 100]


async def test_jumps_move_the_wall_clock_alone() -> None:
    clock = FakeClock()
    monotonic, wall = clock.monotonic(), clock.now()
    clock.jump(-86400)
    assert (clock.monotonic(), clock.now()) == (monotonic, wall - timedelta(days=1))
    await clock.advance(60)
    assert (clock.monotonic(), clock.now()) == (monotonic + 60, wall - timedelta(days=1, seconds=-60))


@pytest.mark.parametrize("offset", [-1, 0, 0.02])
async def test_the_machines_clock_keeps_deadlines(offset: float) -> None:
    clock, never = SystemClock(), asyncio.Event()
    deadline = clock.monotonic() + offset
    assert not await clock.wait(never, deadline)
    assert clock.monotonic() >= deadline
    never.set()
    assert await clock.wait(never, deadline + 3600)


async def test_no_single_sleep_of_the_machines_clock_is_longer_than_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resume from suspend is noticed within a minute, because the time left is looked at anew that often."""
    clock, moments, patience = SystemClock(), iter([0.0, 100.0, 4000.0]), list[float]()
    timeout = asyncio.timeout

    def brief(seconds: float) -> asyncio.Timeout:
        patience.append(seconds)
        return timeout(0)

    monkeypatch.setattr(clock, "monotonic", lambda: next(moments))
    monkeypatch.setattr(asyncio, "timeout", brief)
    assert not await clock.wait(asyncio.Event(), 3600)
    assert patience == [60, 60]
