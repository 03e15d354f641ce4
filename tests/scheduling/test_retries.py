"""Runs that fail: retried before the next due time if the failure is transient, and reported once."""

from __future__ import annotations

import pytest

from recserver._internal.core.errors import SourceFailed, WorkerDied
from recserver._internal.core.events import TaskFailing, TaskRecovered
from recserver.testing import few_interactions
from tests.helpers.workbench import Workbench

pytestmark = pytest.mark.slow

AWAY = SourceFailed("The source is away.", transient=True)


async def fail(bench: Workbench, error: Exception) -> None:
    """Let the training that has begun fail."""
    (await bench.one_begun()).fail(error)
    await bench.ended()


async def test_a_transient_failure_gets_three_attempts_per_due_time(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    began = []
    for longest in (0, 10, 20):
        await bench.clock.advance(longest)
        await fail(bench, AWAY)
        began.append(bench.elapsed())
    assert bench.trainings.started_count == 3
    await bench.clock.advance(3600 - bench.elapsed() - 1)
    assert bench.trainings.started_count == 3
    assert await bench.next_due() == 1  # the grid is where it was
    await bench.clock.advance(1)
    assert bench.trainings.started_count == 4
    task = await bench.task()
    assert (task["runs"], task["retries"], task["failures"]) == (4, 2, 3)


async def test_retry_delays_are_random(bench: Workbench) -> None:
    await bench.trained(interval=1000)
    waits = set()
    for _ in range(8):
        await bench.clock.advance(await bench.next_due())
        await fail(bench, AWAY)
        loop = bench.rec._services.scheduler.loop("t")
        assert loop is not None and loop.retry_at is not None
        wait = loop.retry_at - bench.clock.monotonic()
        assert 0 <= wait <= 10
        waits.add(wait)
        await bench.clock.advance(wait)
        (await bench.one_begun()).finish()
        await bench.ended()
    assert len(waits) > 4


async def test_a_source_may_say_how_long_to_wait(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    await fail(bench, SourceFailed("429", transient=True, retry_after=77.0))
    await bench.clock.advance(76)
    assert bench.trainings.started_count == 1
    assert (await bench.task())["next_run_at"] == "2026-01-02T03:05:22.000Z"
    await bench.clock.advance(1)
    await bench.finish()
    assert await bench.next_due() == 3600 - 77


@pytest.mark.parametrize("wait", [100.0, 101.0, 1e9])
async def test_no_retry_is_made_at_the_next_due_time_or_later(bench: Workbench, wait: float) -> None:
    await bench.add_task(interval=100)
    await fail(bench, SourceFailed("429", transient=True, retry_after=wait))
    await bench.clock.advance(99)
    assert bench.trainings.started_count == 1
    await bench.clock.advance(1)
    assert bench.trainings.started_count == 2


async def test_a_permanent_failure_is_not_retried(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    await fail(bench, SourceFailed("There is no column user_id."))
    await bench.clock.advance(3599)
    assert bench.trainings.started_count == 1


async def test_a_stopped_run_is_not_retried(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    await bench.one_begun()
    await bench.rec.stop_training(task_name="t")
    await bench.clock.advance(3599)
    assert bench.trainings.started_count == 1


async def test_a_retry_that_ends_well_ends_the_attempts(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    await fail(bench, AWAY)
    await bench.clock.advance(10)
    await bench.finish()
    await bench.clock.advance(3580)
    assert bench.trainings.started_count == 2


async def test_a_corrected_definition_does_not_wait_for_the_retry(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    await fail(bench, SourceFailed("503", transient=True, retry_after=600.0))
    await bench.rec.create_data_chef_from_csv("c", file_path="other.csv", overwrite=True)
    await bench.one_begun()
    await bench.clock.advance(700)
    assert bench.trainings.started_count == 2


async def test_the_old_version_answers_while_its_task_fails(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(100)
    await fail(bench, AWAY)
    assert (await bench.rec.recommend("u0", model_id="m"))["model_version"] == 1


async def test_a_task_whose_workers_keep_crashing_gets_one_attempt_per_due_time(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    for longest in (0, 10, 20):
        await bench.clock.advance(longest)
        await fail(bench, WorkerDied("The worker process was killed by signal 9."))
    assert bench.trainings.started_count == 3
    for number in range(3):
        await bench.clock.advance(await bench.next_due())
        await fail(bench, WorkerDied("The worker process was killed by signal 9."))
        await bench.clock.advance(60)
        assert bench.trainings.started_count == 4 + number
    await bench.clock.advance(await bench.next_due())
    await bench.finish()
    await bench.clock.advance(await bench.next_due())
    await fail(bench, WorkerDied("The worker process was killed by signal 9."))
    await bench.clock.advance(10)
    assert bench.trainings.started_count == 9  # one that ended well makes up for all


async def test_failing_and_recovering_are_reported_once(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.trained()
    with bench.rec.events.listen() as told:
        for number in range(3):
            await bench.clock.advance(100)
            await fail(bench, SourceFailed(f"It is away for the {number}. time."))
        task = await bench.task()
        assert task["failing_since"] == "2026-01-02T03:05:45.000Z"
        assert task["last_error"] == "It is away for the 2. time."
        assert task["last_success_at"] == "2026-01-02T03:04:05.000Z"
        await bench.clock.advance(100)
        (await bench.one_begun()).finish(few_interactions(5))
        await bench.ended()
        assert (await told.next(TaskFailing)).error == "It is away for the 0. time."
        assert (await told.next(TaskRecovered)).failing_since == "2026-01-02T03:05:45.000Z"
    assert (await bench.task())["failing_since"] is None
    assert caplog.text.count("task t fails: It is away for the 0. time.") == 1
    assert caplog.text.count("task t fails") == 1
    assert caplog.text.count("task t works again; it failed since 2026-01-02T03:05:45.000Z") == 1


async def test_a_retry_during_another_training_is_postponed_and_not_counted(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    await fail(bench, SourceFailed("The source is away.", transient=True, retry_after=30.0))
    await bench.write_task("other", enabled=False)
    await bench.rec.run_task("other")
    training = await bench.one_begun()
    await bench.clock.advance(40)
    task = await bench.task()
    assert (task["skipped"], task["last_status"], task["last_error"]) == (0, "failed", "The source is away.")
    training.fail("It is away as well.")
    await bench.ended()
    await bench.clock.advance(10)
    assert (await bench.one_begun()).job.model_id == "m"
    task = await bench.task()
    assert (task["runs"], task["retries"]) == (2, 1)


async def test_a_successful_manual_run_cancels_the_retry(bench: Workbench) -> None:
    await bench.add_task(interval=3600)
    await fail(bench, SourceFailed("The source is away.", transient=True, retry_after=30.0))
    await bench.rec.run_task("t")
    await bench.finish()
    await bench.clock.advance(3000)
    assert bench.trainings.started_count == 2
