"""When a task's loop fires: a fixed rate on the monotonic clock, whatever runs take and machines do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recserver._internal.core.clock import SystemClock
from recserver._internal.scheduling.task_loop import OnDue, TaskLoop
from recserver._internal.scheduling.triggers import IntervalTrigger
from recserver._internal.training.task import TaskSpec
from recserver.testing import FakeClock


class Fired:
    """Notes when a loop fires, and lets each run take as long as the test says."""

    def __init__(self, clock: FakeClock, *lengths: float) -> None:
        self.due: list[float] = []
        self.at: list[float] = []
        self.missed: list[int] = []
        self.begun = clock.monotonic()
        self._clock = clock
        self._lengths = iter(lengths)

    async def __call__(self, loop: TaskLoop, due: float, attempt: int) -> None:
        self.due.append(due - self.begun)
        self.at.append(self._clock.monotonic() - self.begun)
        await self._clock.wait(asyncio.Event(), self._clock.monotonic() + next(self._lengths, 0.0))
        self.missed.append(loop.skip_missed())


def task(interval: float = 10) -> TaskSpec:
    return TaskSpec(task_name="t", model_id="m", interactions_data_chef_id="c", interval=interval)


def a_loop(fire: OnDue, clock: FakeClock, interval: float = 10) -> TaskLoop:
    """A loop that is due now."""
    return TaskLoop(task(interval), IntervalTrigger(interval), clock.monotonic(), fire, clock)


@asynccontextmanager
async def running(loop: TaskLoop) -> AsyncIterator[None]:
    """Let a loop run for as long as the block lasts."""
    work = asyncio.create_task(loop.run())
    yield
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_runs_of_any_length_do_not_shift_the_due_times() -> None:
    clock = FakeClock()
    fired = Fired(clock, *(0.3 + number % 9 for number in range(200)))
    async with running(a_loop(fired, clock)):
        await clock.advance(1995)
    assert fired.at == fired.due == [10.0 * number for number in range(200)]
    assert set(fired.missed) == {0}


async def test_a_run_longer_than_the_interval_skips_due_times_and_keeps_the_grid() -> None:
    clock = FakeClock()
    fired = Fired(clock, 25, 5, 10, 31)
    async with running(a_loop(fired, clock)):
        await clock.advance(101)
    assert fired.at == fired.due == [0, 30, 40, 60, 100]
    assert fired.missed == [2, 0, 1, 3, 0]


@pytest.mark.parametrize("intervals", [1, 2, 10**6])
async def test_however_many_due_times_a_suspend_missed_one_run_makes_up_for_them(intervals: int) -> None:
    clock = FakeClock()
    fired = Fired(clock)
    async with running(a_loop(fired, clock)):
        await clock.advance(5)
        await clock.suspend(10 * intervals)
        at = 5.0 + 10 * intervals
        assert fired.at == [0, at]
        await clock.advance(21)
    # Late by less than an interval, a run keeps its grid; otherwise the grid begins again where it runs.
    assert fired.at[2:] == ([20, 30] if intervals == 1 else [at + 10, at + 20])


async def test_jumps_of_the_wall_clock_change_nothing() -> None:
    clock = FakeClock()
    fired = Fired(clock, 2, 3, 4)
    async with running(a_loop(fired, clock)):
        for seconds in (1, -1, 3600, -3600, 86400, -86400, 50 * 31_536_000, -100 * 31_536_000):
            clock.jump(seconds)
            await clock.advance(4)
    assert fired.at == [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("edited_at", "interval", "then"),
    [
        (4, 6, [0, 6, 12, 18]),  # the last due time and the new interval
        (4, 3, [0, 4, 6, 9]),  # which is over: now, late, and on from when it was due
        (4, 30, [0, 30]),
        (4, 10, [0, 10, 20, 30]),
        (4, 1, [0, 4, 5, 6]),  # for longer than it is: now, and on from now
    ],
)
async def test_an_edited_interval_counts_from_the_last_due_time(
    edited_at: float, interval: float, then: list[float]
) -> None:
    clock = FakeClock()
    fired = Fired(clock)
    loop = a_loop(fired, clock)
    async with running(loop):
        await clock.advance(edited_at)
        loop.update(task(interval), IntervalTrigger(interval), None)
        await clock.advance(30 - edited_at)
    assert fired.at[: len(then)] == then


async def test_an_interval_edited_during_a_run_starts_no_second_one() -> None:
    clock = FakeClock()
    fired = Fired(clock, 8)
    loop = a_loop(fired, clock, 100)
    async with running(loop):
        await clock.advance(5)
        loop.update(task(3), IntervalTrigger(3), None)
        await clock.advance(7)
    assert fired.at == [0, 9, 12]
    assert fired.missed == [2, 0, 0]


async def test_an_error_in_a_run_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    clock, runs = FakeClock(), list[float]()

    async def fire(_: TaskLoop, due: float, attempt: int) -> None:
        runs.append(due)
        raise RuntimeError("a fault")

    async with running(a_loop(fire, clock)):
        await clock.advance(25)
    assert len(runs) == 3
    assert caplog.text.count("RuntimeError: a fault") == 3


class At(SystemClock):
    """A clock that stands still."""

    def __init__(self, now: float) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now


whole = st.integers(min_value=0, max_value=10**9)


@given(due=whole, interval=st.integers(1, 10**7), late=whole)
def test_the_next_due_time_lies_ahead_and_on_one_of_two_grids(due: int, interval: int, late: int) -> None:
    now = due + late
    following = IntervalTrigger(interval).next_due(due, At(now))
    assert now < following <= now + interval
    assert following in (due + interval, now + interval)
    assert (following == due + interval) == (late < interval or late == 0)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 45), min_size=1, max_size=8), interval=st.integers(5, 20))
def test_every_due_time_is_either_run_or_counted_as_skipped(lengths: list[int], interval: int) -> None:
    async def run() -> Fired:
        clock = FakeClock()
        fired = Fired(clock, *lengths)
        async with running(a_loop(fired, clock, interval)):
            await clock.advance(sum(lengths) + interval * len(lengths))
        return fired

    fired = asyncio.run(run())
    assert all(due % interval == 0 for due in fired.due)
    assert fired.at == fired.due
    for (one, other), missed in zip(pairwise(fired.due), fired.missed, strict=False):
        assert (other - one) / interval == missed + 1
