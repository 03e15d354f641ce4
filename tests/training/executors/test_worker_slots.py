"""Places and their queue: who came first is first, and no place is lost or given twice."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.executors.worker_slots import WorkerSlots
from tests.helpers.worker_jobs import MakeJob, Started

pytestmark = pytest.mark.process


class Crowd:
    """Takers of places, each of which keeps its own until told to go."""

    def __init__(self, size: int) -> None:
        self.places, self.size = WorkerSlots(size), size
        self.told: defaultdict[int, list[int]] = defaultdict(list)
        self.inside: list[int] = []
        self.entered: list[int] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self._leave: dict[int, asyncio.Event] = {}

    def come(self) -> int:
        number = len(self.tasks)
        self._leave[number] = asyncio.Event()
        self.tasks[number] = asyncio.ensure_future(self._stay(number))
        return number

    async def _stay(self, number: int) -> None:
        async with self.places.acquire(self.told[number].append):
            self.inside.append(number)
            self.entered.append(number)
            assert len(self.inside) <= self.size, "a place was given twice"
            try:
                await self._leave[number].wait()
            finally:
                self.inside.remove(number)

    def leave(self, number: int) -> None:
        self._leave[number].set()

    def cancel(self, number: int) -> None:
        self.tasks[number].cancel()

    @property
    def waiting(self) -> list[int]:
        gone = {number for number, task in self.tasks.items() if task.done()}
        return [number for number in self.tasks if number not in gone and number not in self.inside]

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """All leave; then all places are free again, and not one more."""
        for number in self.tasks:
            self.leave(number)
        results = await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert all(one is None or isinstance(one, asyncio.CancelledError) for one in results), results
        crowd = Crowd(self.size)
        crowd.places = self.places
        for _ in range(self.size + 1):
            crowd.come()
        await crowd.settle()
        assert len(crowd.inside) == self.size
        for number in crowd.tasks:
            crowd.leave(number)
        await asyncio.gather(*crowd.tasks.values())


async def test_who_came_first_is_first_and_is_told_its_position() -> None:
    crowd = Crowd(1)
    for _ in range(4):
        crowd.come()
    await crowd.settle()
    assert (crowd.inside, dict(crowd.told)) == ([0], {0: [], 1: [1], 2: [2], 3: [3]})
    crowd.cancel(2)
    await crowd.settle()
    assert crowd.told[3] == [3, 2]
    for number in (0, 1, 3):
        assert crowd.inside == [number]
        crowd.leave(number)
        await crowd.settle()
    assert crowd.told[3] == [3, 2, 1]
    await crowd.end()


@pytest.mark.parametrize("first", ["cancelled", "given"])
async def test_a_place_handed_to_one_that_gives_up_in_that_moment_is_free_once(first: str) -> None:
    crowd = Crowd(1)
    for _ in range(3):
        crowd.come()
    await crowd.settle()
    for act in (crowd.cancel, crowd.leave) if first == "cancelled" else (crowd.leave, crowd.cancel):
        act(1 if act == crowd.cancel else 0)
        if first == "given" and act == crowd.leave:
            while crowd.inside == [0]:
                await asyncio.sleep(0)
    await crowd.settle()
    assert crowd.inside == [2]
    await crowd.end()


@settings(max_examples=200)
@given(size=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_whatever_comes_leaves_and_gives_up(size: int, seed: int) -> None:
    lot = random.Random(seed)

    async def run() -> None:
        crowd = Crowd(size)
        for _ in range(40):
            here = [number for number, task in crowd.tasks.items() if not task.done()]
            match lot.choice(["come", "come", "leave", "cancel", "turn"]):
                case "come":
                    crowd.come()
                case "leave" if crowd.inside:
                    crowd.leave(lot.choice(crowd.inside))
                case "cancel" if here:
                    crowd.cancel(lot.choice(here))
                case _:
                    await asyncio.sleep(0)
        await crowd.settle()
        waited = [number for number in crowd.entered if crowd.told[number]]
        assert waited == sorted(waited)
        assert len(crowd.inside) == size or not crowd.waiting
        for place, number in enumerate(crowd.waiting, 1):
            assert crowd.told[number][-1] == place
        await crowd.end()

    asyncio.run(run())


async def test_trainings_in_line_are_told_their_position(make_job: MakeJob) -> None:
    pool = ProcessExecutor(1, priority="low")
    stuck = Started(pool, make_job(["rows"], ["hold"]))
    await stuck.has_read()
    lined = [Started(pool, make_job()) for _ in range(3)]
    await asyncio.sleep(0)
    assert [one.progress[-1].queue_position for one in lined] == [1, 2, 3]
    lined[0].task.cancel()
    await asyncio.gather(lined[0].task, return_exceptions=True)
    assert [one.progress[-1].queue_position for one in lined[1:]] == [1, 2]
    stuck.task.cancel()
    await asyncio.gather(lined[1].task, lined[2].task)
    for one in lined[1:]:
        assert one.progress[-1].queue_position is None
        assert {progress.stage for progress in one.progress} >= {"waiting", "starting", "reading", "fitting"}
    await pool.close()
