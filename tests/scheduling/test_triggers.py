"""Cron schedules: summer time, clocks that are set, downtime, edits, and expressions that are none."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recserver import Settings
from recserver._internal.core.errors import InvalidInput
from recserver._internal.scheduling.triggers import CronTrigger
from recserver.testing import FakeClock, few_interactions
from tests.helpers.manual_clock import HandClock
from tests.helpers.workbench import Workbench

pytestmark = pytest.mark.slow

HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def moments(expression: str, zone: str, start: str, days: float) -> list[str]:
    """When a loop would fire by the wall clock of UTC, from ``start`` on; looked at every 60 s as loops do."""
    clock = HandClock(at(start))
    cron, end, fired = CronTrigger(expression, zone), clock.now() + timedelta(days=days), list[str]()
    due = cron.first_due(clock.now(), clock)
    while clock.now() < end:
        clock.advance(min(60.0, max(0.0, due - clock.monotonic())))
        due = cron.corrected_due(due, clock)
        if due <= clock.monotonic():
            assert len(fired) < 1000, f"a storm: {fired[-3:]}"
            due = cron.next_due(due, clock)
            fired.append(f"{clock.now():%d %H:%M}")
    return fired


BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


@pytest.mark.parametrize(
    ("expression", "zone", "start", "days", "expected"),
    [
        # 2026-03-29 02:00 CET is 03:00 CEST, 01:00 UTC; 2026-10-25 03:00 CEST is 02:00 CET, 01:00 UTC.
        ("30 2 * * *", BERLIN, "2026-03-28T00:00Z", 3, ["28 01:30", "29 01:00", "30 00:30"]),
        ("15,45 2 * * *", BERLIN, "2026-03-29T00:00Z", 1.02, ["29 01:00", "30 00:15"]),
        ("30 3 * * *", BERLIN, "2026-03-28T00:00Z", 2, ["28 02:30", "29 01:30"]),
        ("0 * * * *", BERLIN, "2026-03-28T23:30Z", 0.15, ["29 00:00", "29 01:00", "29 02:00", "29 03:00"]),
        ("30 2 * * *", BERLIN, "2026-10-24T00:00Z", 3, ["24 00:30", "25 00:30", "26 01:30"]),
        ("15,45 2 * * *", BERLIN, "2026-10-25T00:00Z", 1, ["25 00:15", "25 00:45"]),
        ("30 * * * *", BERLIN, "2026-10-24T23:59Z", 0.13, ["25 00:30", "25 01:30", "25 02:30"]),
        ("0 3 * * *", BERLIN, "2026-10-25T00:00Z", 1.2, ["25 02:00", "26 02:00"]),
        # 2026-03-08 02:00 EST is 03:00 EDT, 07:00 UTC; 2026-11-01 02:00 EDT is 01:00 EST, 06:00 UTC.
        ("30 2 * * *", NEW_YORK, "2026-03-07T05:00Z", 3, ["07 07:30", "08 07:00", "09 06:30"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T04:00Z", 3, ["31 05:30", "01 05:30", "02 06:30"]),
        ("30 * * * *", NEW_YORK, "2026-11-01T05:00Z", 0.12, ["01 05:30", "01 06:30", "01 07:30"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00Z", 1, []),
    ],
)
def test_daylight_saving_time_skips_and_doubles_no_run(
    expression: str, zone: str, start: str, days: float, expected: list[str]
) -> None:
    assert moments(expression, zone, start, days) == expected


@pytest.mark.parametrize("drift", [-0.03, 0.0, 0.004, 0.9])
def test_every_minute_is_met_by_clocks_that_differ(drift: float) -> None:
    clock = HandClock(at("2026-01-01T00:00:07.2Z"))
    cron, met = CronTrigger("* * * * *", "UTC"), list[datetime]()
    due = cron.first_due(clock.now(), clock)
    while len(met) < 20:
        wait = max(0.0, due - clock.monotonic())
        clock.advance(wait + max(drift, 0.0))
        clock.jump(min(drift, 0.0) if wait > 1 else 0.0)  # the wall clock is slow
        due = cron.corrected_due(due, clock)
        if due <= clock.monotonic():
            due = cron.next_due(due, clock)
            met.append(cron.wall_time(due, clock))
    assert met == [at("2026-01-01T00:01Z") + timedelta(minutes=number) for number in range(20)]


async def scheduled(bench: Workbench, expression: str, **more: Any) -> None:
    """Task ``t`` by that expression, with its first run, which begins at once, ended."""
    await bench.rec.add_model_task("t", model_id="m", data_chef_id="c", schedule=expression, **more)
    await bench.finish()


async def runs_at(bench: Workbench, seconds: float, step: float = 30) -> list[str]:
    """When runs begin within the next seconds, by the wall clock; each ends at once."""
    begun = []
    for _ in range(round(seconds / step)):
        await bench.clock.advance(step)
        while bench.trainings.running:
            begun.append(f"{bench.clock.now():%Y-%m-%d %H:%M:%S}")
            await bench.finish(few_interactions(2 + len(bench.trainings.trainings) % 7))
    return begun


# The clock of a bench shows 2026-01-02 03:04:05 at first.
@pytest.mark.parametrize(
    ("jump", "first"),
    [
        (0, "2026-01-02 03:05:05"),
        (300, None),
        (-120, "2026-01-02 03:05:05"),  # 03:02:05 at first
        (2 * HOUR, None),
        (-2 * HOUR, "2026-01-02 01:05:05"),
        (3 * DAY, None),
        (-3 * DAY, "2025-12-30 03:05:05"),
        (50 * YEAR, None),
        (-50 * YEAR, None),
    ],
)
async def test_a_schedule_follows_a_wall_clock_that_is_set(
    bench: Workbench, jump: float, first: str | None
) -> None:
    await scheduled(bench, "*/5 * * * *")
    bench.clock.jump(jump)
    begun = await runs_at(bench, 20 * 60)
    assert 4 <= len(begun) <= 5  # what was passed over counts as one
    assert len(set(begun)) == len(begun)
    regular = begun[1:] if jump > 0 else begun
    assert all(minute[-4] in "05" for minute in regular), begun
    if first is not None:
        assert begun[0] == first
    if jump > 0:
        assert begun[0] <= f"{bench.clock.now() - timedelta(minutes=19):%Y-%m-%d %H:%M:%S}"


async def test_a_clock_set_back_a_little_repeats_no_run(bench: Workbench) -> None:
    await scheduled(bench, "10 3 * * *")
    assert await runs_at(bench, 360) == ["2026-01-02 03:10:05"]
    for seconds in (5, 70, 600, 1800, 3600):
        bench.clock.jump(-seconds)
        assert await runs_at(bench, seconds + 120) == [], seconds
        assert (await bench.task())["next_run_at"] == "2026-01-03T03:10:00.000Z"


async def test_a_clock_set_to_and_fro_makes_no_storm(bench: Workbench) -> None:
    await scheduled(bench, "0 * * * *")
    for jump in (YEAR, -YEAR, 50 * YEAR, -50 * YEAR, DAY, -DAY, HOUR, -HOUR):
        bench.clock.jump(jump)
        assert len(await runs_at(bench, 120)) <= 1
    assert bench.trainings.started_count <= 9
    assert 0 < await bench.next_due() <= 2 * HOUR


async def test_a_clock_set_back_across_a_restart_repeats_no_run(data_dir: Path, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        clock = bench.clock
        await scheduled(bench, "10 3 * * *")
        assert len(await runs_at(bench, 360)) == 1
    clock.jump(-600)
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        assert await runs_at(bench, 900) == []
        assert (await bench.task())["next_run_at"] == "2026-01-03T03:10:00.000Z"


@pytest.mark.parametrize("slow", [0.0, 0.02])
async def test_a_restart_right_after_a_run_does_not_repeat_it(
    data_dir: Path, settings: Settings, slow: float
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        clock = bench.clock
        await scheduled(bench, "10 3 * * *")
        await clock.advance(354)
        clock.jump(-slow)
        await clock.advance(2)
        await bench.finish(few_interactions(5))
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        assert await runs_at(bench, 120) == []


@pytest.mark.parametrize("minutes", [6, 61, 60 * 24 * 400])
async def test_after_a_downtime_there_is_one_run(data_dir: Path, settings: Settings, minutes: int) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await scheduled(bench, "*/5 * * * *")
        clock = bench.clock
    await clock.suspend(60 * minutes)
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        await bench.finish(few_interactions(5))
        assert bench.elapsed() == 0
        task = await bench.task()
        assert task["coalesced"] == min(minutes // 5 + 1, 1000) - 1  # it was closed at 03:04:05
        assert 0 < await bench.next_due() <= 300


async def test_moments_during_a_long_run_are_skipped_and_counted(bench: Workbench) -> None:
    await scheduled(bench, "*/5 * * * *")
    await bench.clock.advance(60)
    training = await bench.one_begun()  # at 03:05
    await bench.clock.advance(15 * 60)
    assert bench.trainings.started_count == 2
    training.finish(few_interactions(5))
    await bench.ended()
    task = await bench.task()
    assert (task["skipped"], task["next_run_at"]) == (3, "2026-01-02T03:25:00.000Z")


async def test_moments_that_a_new_expression_names_in_the_past_are_not_made_up_for(bench: Workbench) -> None:
    await scheduled(bench, "0 4 * * *")  # its run was due at 03:04:05
    assert await runs_at(bench, 600) == []
    await bench.write_task(schedule="5 3 * * *")  # 03:05 has passed when this is written
    assert bench.trainings.started_count == 1
    assert (await bench.task())["next_run_at"] == "2026-01-03T03:05:00.000Z"


@pytest.mark.parametrize("by_file", [True, False], ids=["by file", "by HTTP verb"])
async def test_an_interval_becomes_a_schedule_and_back(bench: Workbench, by_file: bool) -> None:
    await bench.trained(interval=1000)
    task = {"model_id": "m", "data_chef_id": "c", "overwrite": True}
    if by_file:
        await bench.write_task(schedule="7 3 * * *", timezone="UTC")
    else:
        await bench.rec.add_model_task("t", schedule="7 3 * * *", **task)
    assert (await bench.task())["next_run_at"] == "2026-01-02T03:07:00.000Z"
    assert await runs_at(bench, 240) == ["2026-01-02 03:07:05"]
    if by_file:
        await bench.write_task(schedule=None, interval=500)
    else:
        await bench.rec.update_task_interval("t", interval=500)
    assert (await bench.task())["schedule"] is None
    assert await bench.next_due() == pytest.approx(175 + 500 - 240, abs=0.01)
    await bench.write_task(schedule="0 4 * * *", timezone="Europe/Berlin")
    assert (await bench.task())["next_run_at"] == "2026-01-03T03:00:00.000Z"


BAD = [
    ({"schedule": "* * * *"}, "must be a cron expression of five fields"),
    ({"schedule": "* * * * * *"}, "must be a cron expression of five fields"),
    ({"schedule": "@daily"}, "must be a cron expression of five fields"),
    ({"schedule": "60 * * * *"}, "is not a valid cron expression (bad minute)"),
    ({"schedule": "0 24 * * *"}, "is not a valid cron expression (bad hour)"),
    ({"schedule": "0 0 30 2 *"}, "is not a valid cron expression (bad day-of-month)"),
    ({"schedule": "0 0 * * FOO"}, "is not a valid cron expression (bad day-of-week)"),
    ({"schedule": "*/0 * * * *"}, "is not a valid cron expression"),
    ({"schedule": "* " * 300}, "200 characters"),
    ({"schedule": 5}, "schedule"),
    ({"schedule": True}, "schedule"),
    ({"schedule": ["0 0 * * *"]}, "schedule"),
    ({"schedule": "0 0 * * *", "timezone": "Europe/Atlantis"}, "is not a time zone"),
    ({"schedule": "0 0 * * *", "timezone": "../../etc/passwd"}, "is not a time zone"),
    ({"schedule": "0 0 * * *", "timezone": "/etc/localtime"}, "is not a time zone"),
    ({"schedule": "0 0 * * *", "timezone": "Europe"}, "is not a time zone"),
    ({"schedule": "0 0 * * *", "timezone": "a\0b"}, "is not a time zone"),
    ({"schedule": "0 0 * * *", "timezone": 1}, "timezone"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD, ids=[str(one)[:60] for one, _ in BAD])
async def test_what_is_no_schedule_is_refused_in_a_sentence(
    bench: Workbench, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await bench.rec.add_model_task("t", model_id="m", data_chef_id="c", **wrong)
    assert said in str(refused.value)
    assert await bench.rec.list_tasks() == {}
    await bench.write_task(interval=None, **wrong)
    task = await bench.task()
    assert said in task["last_error"]
    assert (task["next_run_at"], bench.rec._services.scheduler.loop("t"), bench.trainings.started_count) == (
        None,
        None,
        0,
    )
    await bench.write_task(interval=None, schedule="0 0 * * *", timezone="UTC")
    await bench.finish()
    assert (await bench.task())["next_run_at"] == "2026-01-03T00:00:00.000Z"


async def test_a_planned_run_takes_the_place_of_no_moment() -> None:
    clock = FakeClock(at("2026-01-01T00:00:30Z"))
    cron = CronTrigger("* * * * *", "UTC")
    cron.first_due(clock.now(), clock)
    assert cron.next_due(clock.monotonic(), clock) == clock.monotonic() + 30
    await asyncio.sleep(0)
