"""P1 and P5 on a real clock: nobody misses a run, nothing drifts, and a bad interval disturbs nobody."""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from pathlib import Path

import pytest
from aiohttp import ClientSession

from recserver import RecServer, Settings
from recserver._internal.core.clock import SystemClock
from recserver._internal.scheduling.task_loop import TaskLoop
from recserver._internal.scheduling.task_runner import TaskRunner
from tests.helpers.realtime import AtOnce, load, passing, prepare, quantile, serving

pytestmark = pytest.mark.slow  # runs in real time

BAD_INTERVALS = [
    "NaN", "-NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0", "-0", "0.0", "-0.0", "-1", "-5", "1e-12",
    "0.999", "5e-324", "1e12", "1e308", "31622401", "9223372036854775808", "9" * 5000, "true", "false", "null",
    '"3600"', '"1h"', '"NaN"', '"inf"', '""', "[]", "[3600]", "{}", '{"s":1}', "01", "+1", ".5", "1.", "1e",
    "0x10", "1_000", '3600,"interval":0',
]  # fmt: skip


@pytest.fixture(autouse=True)
async def as_in_production() -> None:
    """The loop's debug mode costs more than all that is measured here."""
    asyncio.get_running_loop().set_debug(False)


def seeded() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    return random.Random(seed)


async def fixed_rate(data_dir: Path, intervals: list[float], seconds: float, per_second: float) -> list[float]:
    """Let tasks of those intervals run under load; none may miss a run. Returns how late starts were."""
    prepare(data_dir, intervals)
    executor, off = AtOnce(), list[float]()
    async with serving(data_dir, executor) as (rec, url):
        while len(executor.starts) < len(intervals):
            await passing(0.05)
        await passing(1)  # the first trainings of all models have ended
        loops = [rec._services.scheduler.loop(f"t{number}") for number in range(len(intervals))]
        grids = [loop.due for loop in loops if loop]
        before = await rec.list_tasks()
        executor.starts.clear()
        begun = SystemClock().monotonic()
        loading = asyncio.ensure_future(load(url, per_second, seed=1))
        await passing(seconds)
        ended = SystemClock().monotonic()
        loading.cancel()
        statuses = await loading
        after = await rec.list_tasks()
    for number, (interval, grid, loop) in enumerate(zip(intervals, grids, loops, strict=True)):
        assert loop is not None
        drift = (loop.due - grid) % interval
        assert min(drift, interval - drift) < 1e-6, "the grid has moved"
        starts, name = executor.starts[f"m{number}"], f"t{number}"
        for counter in ("skipped", "coalesced", "failures"):
            assert after[name][counter] == before[name][counter], (counter, after[name])
        due = math.floor((ended - grid) / interval) + 1
        assert abs(len(starts) - due) <= 1, (name, len(starts), due)
        off += [(start - grid) % interval for start in starts]
    assert set(statuses) == {200}
    assert statuses[200] >= 0.7 * per_second * (ended - begun)
    print(f"{len(off)} starts, late by p50 {quantile(off, 0.5):.4f} s, p99 {quantile(off, 0.99):.4f} s")
    return off


async def test_twenty_tasks_under_load_miss_no_run(data_dir: Path) -> None:
    lot = seeded()
    intervals = [lot.choice([1, 1.5, 2, 3, 5, 7]) for _ in range(20)]
    off = await fixed_rate(data_dir, intervals, 7.5, 50)
    assert len(off) > 20


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_two_hundred_tasks_under_load_start_within_a_tenth_of_a_second(data_dir: Path) -> None:
    lot = seeded()
    off = await fixed_rate(data_dir, [round(lot.uniform(1, 10), 2) for _ in range(200)], 600, 200)
    assert quantile(off, 0.99) <= 0.1


async def disturb(data_dir: Path, url: str) -> None:
    """Send every bad interval over HTTP, and write it into files."""
    async with ClientSession(url) as http:
        for number, text in enumerate(BAD_INTERVALS):
            name = f"bad{number}"
            for path, body in (
                (
                    "/add_model_task",
                    f'{{"task_name":"{name}","model_id":"m0","data_chef_id":"c","interval":{text}}}',
                ),
                ("/update_task_interval", f'{{"task_name":"t0","interval":{text}}}'),
            ):
                async with http.post(path, data=body, headers={"Content-Type": "application/json"}) as answer:
                    refused = await answer.json()
                    assert 400 <= answer.status < 500, (text, answer.status)
                    assert len(refused["detail"]) > 10
            content = f'{{"model_id":"m0","interactions_data_chef_id":"c","interval":{text}}}'
            (data_dir / "tasks" / f"{name}.json").write_text(content)
            # An edit by hand of a task that runs: the last good definition goes on.
            (data_dir / "tasks" / "t1.json").write_text(content.replace("m0", "m1"))
            await passing(0.1)


async def bad_intervals_hurt_nobody(data_dir: Path, times: int, tasks: int) -> list[float]:
    """Tasks of one second, whose runs are only noted, while bad intervals come in; how late starts were."""
    starts: defaultdict[str, list[float]] = defaultdict(list)

    async def fire(loop: TaskLoop, due: float, attempt: int) -> None:
        starts[loop.spec.task_name].append(SystemClock().monotonic() - due)

    prepare(data_dir, [1] * tasks)
    rec = RecServer(data_dir, Settings(port=0, rescan_seconds=1), executor=AtOnce())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskRunner, "fire", lambda _, *given: fire(*given))
        async with rec, rec.serve() as url:
            scheduler = rec._services.scheduler
            loops = {name: scheduler.loop(name) for name in scheduler.task_names}
            await passing(0.5)
            starts.clear()
            begun = SystemClock().monotonic()
            for _ in range(times):
                await disturb(data_dir, url)
            await passing(1)
            ended = SystemClock().monotonic()
            await rec.restart_scheduler()
            assert {name: scheduler.loop(name) for name in scheduler.task_names} == loops
            assert len(scheduler.file_errors) == len(BAD_INTERVALS) + 1
            listed = await rec.list_tasks()
    for name, loop in loops.items():
        assert loop is not None and loop.spec.interval == 1
        assert abs(len(starts[name]) - (ended - begun)) <= 2, (name, len(starts[name]), ended - begun)
    for number, text in enumerate(BAD_INTERVALS):
        assert listed[f"bad{number}"]["last_error"], text
        assert listed[f"bad{number}"]["next_run_at"] is None, text
    return [late for one in starts.values() for late in one]


async def test_bad_intervals_by_both_doors_hurt_nobody(data_dir: Path) -> None:
    off = await bad_intervals_hurt_nobody(data_dir, 1, 50)
    print(f"{len(off)} starts, late by p50 {quantile(off, 0.5):.4f} s, p99 {quantile(off, 0.99):.4f} s")


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_bad_intervals_by_both_doors_put_nobody_off_by_a_tenth_of_a_second(data_dir: Path) -> None:
    assert quantile(await bad_intervals_hurt_nobody(data_dir, 20, 50), 0.99) <= 0.1
