"""What holds for every schedule and every clock; and when a task runs, in every state that it may be in."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserver import Settings
from recserver._internal.scheduling.triggers import MAX_MISSED_COUNTED, CronTrigger, IntervalTrigger
from recserver.testing import few_interactions
from tests.helpers.manual_clock import HandClock
from tests.helpers.workbench import Workbench

seconds = st.floats(0, 1e9, allow_nan=False)
intervals = st.floats(1, 31_622_400)
walls = st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC))
expressions = st.builds(
    " ".join,
    st.tuples(
        st.sampled_from(["*", "0", "30", "*/7", "15,45", "1-5"]),
        st.sampled_from(["*", "2", "*/6", "1,2,3", "23"]),
        st.sampled_from(["*", "1", "31", "L", "*/9"]),
        st.sampled_from(["*", "2", "3,10,11", "*/5"]),
        st.sampled_from(["*", "0", "MON-FRI", "SUN#1"]),
    ),
)
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])


@given(interval=intervals, age=st.floats(-1e9, 1e9))
def test_an_interval_begins_within_itself(interval: float, age: float) -> None:
    clock = HandClock()
    due = IntervalTrigger(interval).first_due(clock.now() - timedelta(seconds=age), clock)
    assert -1e-6 <= due - clock.monotonic() <= interval + 1e-6
    assert IntervalTrigger(interval).first_due(None, clock) == clock.monotonic()


@given(interval=intervals, late=seconds)
def test_what_passed_of_an_interval_is_counted_by_division(interval: float, late: float) -> None:
    clock = HandClock()
    due = clock.monotonic() - late
    missed, following = IntervalTrigger(interval).missed_and_next(due, clock)
    slack = 1e-5 * max(1.0, late / 1e6)
    assert clock.monotonic() - slack <= following <= clock.monotonic() + interval + slack
    assert abs(following - due - missed * interval) <= slack
    assert IntervalTrigger(interval).corrected_due(due, clock) == due


@given(expression=expressions, zone=zones, wall=walls, late=seconds)
def test_a_moment_is_never_in_the_past_and_never_met_twice(
    expression: str, zone: str, wall: datetime, late: float
) -> None:
    clock = HandClock(wall)
    try:
        cron = CronTrigger(expression, zone)
        due = cron.first_due(wall, clock)
    except Exception as error:  # no month has such a day
        assert type(error).__name__ == "CronSimError"
        return
    clock.advance(late % 1e7)
    missed, following = cron.missed_and_next(due, clock)
    assert (missed > 0) == (due - clock.monotonic() <= 0.001 if due != float("inf") else False)
    assert missed <= MAX_MISSED_COUNTED
    assert following > clock.monotonic() - 1e-6
    before = cron.wall_time(following, clock)
    again = cron.next_due(following, clock)
    assert again == pytest.approx(following, abs=0.002)
    if again != float("inf"):
        clock.advance(again - clock.monotonic())
        due = cron.corrected_due(again, clock)
        assert abs(due - clock.monotonic()) < 0.002
        cron.next_due(due, clock)
        assert missed == 0 or cron.wall_time(due, clock) > before
    assert cron.first_due(None, clock) == clock.monotonic()


@pytest.mark.slow
@given(expression=expressions, zone=zones, wall=walls, jumps=st.lists(st.floats(-1e9, 1e9), max_size=6))
def test_wherever_the_clock_is_set_the_next_moment_lies_ahead_and_is_true(
    expression: str, zone: str, wall: datetime, jumps: list[float]
) -> None:
    clock = HandClock(wall)
    cron = CronTrigger(expression, zone)
    try:
        due = cron.first_due(wall, clock)
    except Exception as error:
        assert type(error).__name__ == "CronSimError"
        return
    for jump in jumps:
        if not 1970 < clock.now().year + jump / 31_556_952 < 2300:
            continue
        clock.jump(jump)
        due = cron.corrected_due(due, clock)
        assert due >= clock.monotonic()
        if due <= clock.monotonic():
            due = cron.next_due(due, clock)
        fresh = CronTrigger(expression, zone)
        ahead = fresh.first_due(clock.now(), clock)
        # The next moment of a fresh schedule, or the one behind it if that was met before the clock was set back.
        assert due >= ahead - 0.001


@pytest.mark.parametrize(
    "schedule", [IntervalTrigger(1), CronTrigger("* * * * *", "Europe/Berlin"), CronTrigger("0 0 29 2 *", "UTC")]
)
def test_however_long_ago_it_was_the_next_due_time_is_found_at_once(
    schedule: IntervalTrigger | CronTrigger,
) -> None:
    clock = HandClock(datetime(1975, 1, 1, tzinfo=UTC))
    due = schedule.first_due(clock.now(), clock)
    clock.advance(100 * 31_536_000)
    begun = time.process_time()
    assert schedule.next_due(due, clock) >= clock.monotonic()
    assert schedule.first_due(datetime(1975, 1, 1, tzinfo=UTC), clock) >= clock.monotonic()
    assert time.process_time() - begun < 0.5


# P3: every row says whether a run starts within a second, and in how many seconds the task is due from then on.
PASTS = "never ran", "on time", "running", "failed", "interrupted"
LATENESS = 0.5, 1, 2, 10**6
"""Intervals that have passed since the last due time."""
STATES = "enabled", "stopped", "edited", "removed"
ROWS = list(itertools.product(PASTS, LATENESS, STATES))


@pytest.mark.slow
@pytest.mark.parametrize(("past", "late", "state"), ROWS, ids=[f"{a}, {b} late, {c}" for a, b, c in ROWS])
async def test_truth_table(data_dir: Path, settings: Settings, past: str, late: float, state: str) -> None:
    """A task of interval 100, opened with the past of an earlier server unless it is running."""
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        clock = bench.clock
        if past == "never ran":
            await bench.rec.stop_scheduler()
            await bench.add_task()
        else:
            await bench.trained()
            await clock.advance(100)
            training = await bench.one_begun()
            if past == "on time":
                training.finish(few_interactions(5))
                await bench.ended()
            elif past == "failed":
                training.fail("The source is away.")
                await bench.ended()
            elif past == "running":
                await in_a_running_server(bench, late, state)
                return
        if state == "stopped":
            await bench.rec.stop_scheduler()
    path = data_dir / "tasks" / "t.json"
    if past == "interrupted":  # as a killed server leaves it
        journal = json.loads((data_dir / ".scheduler.json").read_text())
        journal["t"] |= {"last_status": "training"}
        (data_dir / ".scheduler.json").write_text(json.dumps(journal))
    await clock.suspend(100 * late)
    if state == "edited":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"interval": 200}))
    elif state == "removed":
        path.unlink()
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings, clock)
        await clock.settle()
        interval = 200 if state == "edited" else 100
        starts = state != "removed" and (past == "never ran" or 100 * late >= interval)
        assert bench.trainings.started_count == starts
        if state == "removed":
            assert await bench.rec.list_tasks() == {}
            await clock.advance(1000)
            assert bench.trainings.started_count == 0
            return
        task = await bench.task()
        assert task["interrupted"] == (past == "interrupted")
        assert task["failures"] == (past in ("failed", "interrupted"))
        assert task["runs"] == {"never ran": 0}.get(past, 2) + starts
        assert (task["skipped"], task["retries"]) == (0, 0)
        assert await bench.next_due() == pytest.approx(interval if starts else interval - 100 * late, abs=0.01)
        if starts:
            await bench.finish(few_interactions(6))
        await clock.advance(await bench.next_due() + 0.01)
        assert bench.trainings.started_count == starts + 1


async def in_a_running_server(bench: Workbench, late: float, state: str) -> None:
    """The rows of tasks that run while due times pass: they are counted, none is started."""
    training = bench.trainings.running[0]
    if state == "stopped":
        await bench.rec.stop_scheduler(cancel_running=False)
    elif state == "edited":
        await bench.write_task(interval=200)
    elif state == "removed":
        await bench.rec.remove_model_task("t")
        assert training.cancelled
    await bench.clock.suspend(100 * late)
    assert bench.trainings.started_count == 2
    interval = 200 if state == "edited" else 100
    if state != "removed":
        training.finish(few_interactions(5))
        assert (await bench.ended()).outcome == "completed"
        assert (await bench.task())["skipped"] == (int(100 * late // interval) if state != "stopped" else 0)
    if state in ("enabled", "edited"):
        assert await bench.next_due() == pytest.approx(interval - 100 * late % interval, abs=0.01)
        await bench.clock.advance(await bench.next_due())
        assert bench.trainings.started_count == 3
    else:
        await bench.clock.advance(1000)
        assert bench.trainings.started_count == 2
