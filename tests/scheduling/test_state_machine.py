"""Anything in any order, and nothing that is promised breaks: P1 to P11, by a state machine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from recserver._internal.core.errors import RecServerError
from recserver._internal.storage.folder_watcher import FolderWatcher
from tests.helpers.state_machine import BROKEN, MODELS, TASKS, Driven

names, models = st.sampled_from(TASKS), st.sampled_from(MODELS)
rhythms: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from([{"interval": 10}, {"interval": 25.5}, {"interval": 60}, {"interval": 120}]),
    st.just({"schedule": "*/2 * * * *", "interval": 10}),
)
spans = st.sampled_from([0.5, 5.0, 10.0, 30.0, 100.0])


class Clockwork(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.driven = Driven()

    def teardown(self) -> None:
        self.driven.end()

    def check(self) -> None:
        self.driven.do(self.driven.check())

    def ask(self, verb: str, *given: Any, **more: Any) -> bool:
        """Call a verb; whether it was done. Every refusal is a sentence of recserver's own."""
        try:
            self.driven.do(getattr(self.driven.rec, verb)(*given, **more))
        except RecServerError as error:
            assert len(str(error)) > 10
            return False
        finally:
            # What is defined now was defined before anything began of it.
            self.driven.looked()
        return True

    def write(self, name: str, text: str | None) -> None:
        path = self.driven.data / "tasks" / f"{name}.json"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)
        self.driven.looked()
        self.driven.do(self.driven.bench.look())
        self.check()

    @rule(seconds=spans)
    def time_passes(self, seconds: float) -> None:
        driven = self.driven
        owed = []
        trainer = driven.rec._services.trainer
        running = {run.task_name for run in trainer.runs.values()}
        for name in TASKS:
            loop = driven.rec._services.scheduler.loop(name)
            # A task whose model was changed during a run waits for that run, which is of another model.
            free = loop and loop.spec.model_id not in trainer.runs and name not in running and not loop.is_firing
            alone = free and len({one["model_id"] for one in driven.good.values()}) == len(driven.good)
            if loop and alone and not loop.spec.schedule and loop.due <= driven.bench.clock.monotonic() + seconds:
                owed.append((name, driven.past[name].counts["runs"]))
        driven.do(driven.bench.clock.advance(seconds))
        self.check()
        for name, before in owed:
            assert driven.past[name].counts["runs"] > before, f"{name} was due and did not run"

    @rule(seconds=st.sampled_from([3.0, 20.0, 1e3, 1e7]))
    def the_machine_sleeps(self, seconds: float) -> None:
        for name in TASKS:
            self.driven.shift(name)
        self.driven.do(self.driven.bench.clock.suspend(seconds))
        self.check()

    @rule(
        seconds=st.sampled_from([1, -1, 59, -61, 3600, -3600, 86_400, -86_400, 40 * 31_536_000, -40 * 31_536_000])
    )
    def the_clock_is_set(self, seconds: float) -> None:
        if 1975 < self.driven.bench.clock.now().year + seconds / 31_536_000 < 2250:
            for name, one in self.driven.good.items():
                if one["schedule"]:
                    self.driven.shift(name)
            self.driven.bench.clock.jump(seconds)
        self.check()

    @rule(name=names, model=models, rhythm=rhythms, enabled=st.booleans())
    def add(self, name: str, model: str, rhythm: dict[str, Any], enabled: bool) -> None:
        self.ask("add_model_task", name, model_id=model, data_chef_id="c", enabled=enabled or None, **rhythm)
        self.check()

    @rule(name=names, model=models, rhythm=rhythms, enabled=st.booleans())
    def write_file(self, name: str, model: str, rhythm: dict[str, Any], enabled: bool) -> None:
        content = {"model_id": model, "interactions_data_chef_id": "c", "enabled": enabled, **rhythm}
        self.write(name, json.dumps(content))

    @rule(name=names, text=st.sampled_from(BROKEN))
    def break_file(self, name: str, text: str) -> None:
        self.write(name, text)

    @rule(name=names)
    def remove_file(self, name: str) -> None:
        self.write(name, None)

    @rule(name=names, verb=st.sampled_from(["remove_model_task", "pause_task", "resume_task", "run_task"]))
    def by_verb(self, name: str, verb: str) -> None:
        self.ask(verb, name)
        self.check()

    @rule(name=names, interval=st.sampled_from([10, 40]))
    def change_interval(self, name: str, interval: float) -> None:
        self.ask("update_task_interval", name, interval=interval)
        self.check()

    @precondition(lambda self: self.driven.trainings.running)
    @rule(which=st.integers(0, 1), users=st.integers(2, 5))
    def finish(self, which: int, users: int) -> None:
        under_way = self.driven.trainings.running
        self.driven.do(self.driven.finish(under_way[which % len(under_way)], users))
        self.check()

    @precondition(lambda self: self.driven.trainings.running)
    @rule(which=st.integers(0, 1), how=st.sampled_from(["transient", "wait", "long", "lasts", "fault", "died"]))
    def fail(self, which: int, how: str) -> None:
        under_way = self.driven.trainings.running
        self.driven.do(self.driven.fail(under_way[which % len(under_way)], how))
        self.check()

    @rule(name=names, users=st.lists(st.integers(2, 5), min_size=2, max_size=3))
    def periods_go_by(self, name: str, users: list[int]) -> None:
        """From due time to due time, every run ending well."""
        for number in users:
            loop = self.driven.rec._services.scheduler.loop(name)
            if loop is None or loop.due == float("inf"):
                return
            self.time_passes(max(0.0, loop.due - self.driven.bench.clock.monotonic()))
            for training in list(self.driven.trainings.running):
                self.driven.do(self.driven.finish(training, number))
                self.check()

    @rule(name=names, how=st.sampled_from(["wait", "died"]))
    def fail_again_and_again(self, name: str, how: str) -> None:
        """From a due time on, every attempt at it fails."""
        loop = self.driven.rec._services.scheduler.loop(name)
        if loop is None or loop.due == float("inf"):
            return
        self.time_passes(max(0.0, loop.due - self.driven.bench.clock.monotonic()))
        for _ in range(4):
            training = [one for one in self.driven.trainings.running if one.job.model_id == loop.spec.model_id]
            if not training:
                return
            self.driven.do(self.driven.fail(training[0], how))
            self.check()
            self.time_passes(8.0)

    @rule(model=models)
    def stop_training(self, model: str) -> None:
        assert self.ask("stop_training", model_id=model)
        self.check()
        assert model not in self.driven.rec._services.trainer.runs

    @rule(cancel=st.booleans())
    def stop_scheduler(self, cancel: bool) -> None:
        driven = self.driven
        assert self.ask("stop_scheduler", cancel_running=cancel)
        assert not (cancel and driven.trainings.running)
        driven.note()  # what began before the answer was allowed to
        driven.scheduled = False
        for name in TASKS:
            driven.shift(name)
        driven.loops_begin_anew()
        self.check()

    @rule()
    def restart_scheduler(self) -> None:
        if not self.driven.scheduled:
            self.driven.loops_begin_anew()
        self.driven.scheduled = True
        assert self.ask("restart_scheduler")
        self.check()

    @rule()
    def reopen(self) -> None:
        self.driven.do(self.driven.reopen())
        self.check()

    @rule()
    def kill(self) -> None:
        self.driven.do(self.driven.killed())
        self.check()


FEW = settings(max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=20_000, stateful_step_count=50)


def run(profile: hypothesis.settings) -> None:
    async def never(_: FolderWatcher) -> None:
        """Files are looked at when a rule says so: reports in real time would differ from one try to the next."""
        await asyncio.get_running_loop().create_future()

    logging.disable(logging.CRITICAL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FolderWatcher, "run", never)
            run_state_machine_as_test(Clockwork, settings=profile)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_anything_in_any_order() -> None:
    examples = int(os.environ.get("RECSERVER_STATE_MACHINE_EXAMPLES", FEW.max_examples))
    run(settings(FEW, max_examples=examples))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_anything_in_any_order_for_long() -> None:
    run(MANY)
