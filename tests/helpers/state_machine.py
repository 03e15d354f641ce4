"""A server on a fake clock, driven by Hypothesis, and what must hold of it after every step."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

from recserver import Settings
from recserver._internal.core.errors import RecServerError, SourceFailed, WorkerDied
from recserver._internal.core.events import Event, RunEnded, RunStarted, Subscription
from recserver._internal.training.task import TaskSpec
from recserver.testing import FakeClock, ScriptedTraining, few_interactions
from tests.helpers.workbench import Workbench

T = TypeVar("T")
TASKS, MODELS = ("s", "t"), ("m", "n")
BROKEN = "{", "", '{"model_id": "m"}', '{"model_id": "m", "interactions_data_chef_id": "c", "interval": NaN}'
SETTINGS = Settings(
    port=0, training_processes=1, shutdown_grace=5, rescan_seconds=3600, history_days=36_600, history_runs=10_000
)


class Past:
    """What the test saw of one task since it was added."""

    def __init__(self, now: float) -> None:
        self.counts: Counter[str] = Counter()
        self.attempts = 0
        self.transient = False
        self.since = now
        self.shortest = 1e9
        self.granted = 1
        self.grid: float | None = None
        """A moment at which the task was due, while nothing has happened that may shift its due times."""


class Driven:
    """The server, and a simple picture of what it should be doing."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.data = self.folder / "data"
        self.scheduled = True
        self.good: dict[str, dict[str, Any]] = {}
        self.past: dict[str, Past] = {}
        self.versions: dict[str, int] = {}
        """Those that serve, by model."""
        self.numbers = Counter[str]()
        """The highest, by model."""
        self.outcomes: dict[str, str] = {}
        self.under_way: dict[str, RunStarted] = {}
        self.ends: defaultdict[str, list[bool]] = defaultdict(list)
        self.clock: FakeClock | None = None
        self.do(self.open())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # Opening and closing

    async def open(self) -> None:
        self.stack, self.seen = AsyncExitStack(), list[Event]()
        if self.clock is None:
            self.clock = FakeClock()
        bench = await Workbench.open(self.stack, self.data, SETTINGS, self.clock)
        self.bench, self.rec, self.trainings = bench, bench.rec, bench.trainings
        if "n" not in await bench.rec.list_models():
            await bench.rec.create_model("n", algorithm="nmf")
        self.listening = asyncio.ensure_future(self._listen(bench.events))
        self.scheduled = True
        await self.clock.settle()

    async def _listen(self, events: Subscription) -> None:
        async for event in events:
            self.seen.append(event)

    async def close(self) -> None:
        await self.stack.aclose()
        for _ in range(5):
            await asyncio.sleep(0)
        self.listening.cancel()
        with suppress(asyncio.CancelledError):
            await self.listening

    async def reopen(self) -> None:
        """Close in order and open again."""
        await self.close()
        self.note()
        self.loops_begin_anew()
        await self.open()

    async def killed(self) -> None:
        """Open again from the files as they are now."""
        files = {path: path.read_bytes() for path in self.data.rglob("*") if path.is_file()}
        self.note()
        lost = dict(self.under_way)
        await self.close()
        for path in [path for path in self.data.rglob("*") if path.is_file()]:
            if path not in files:
                path.unlink()
        for path, content in files.items():
            path.write_bytes(content)
        for run in lost.values():
            self.outcomes[run.run_id] = "failed"
            if run.task_name in self.past:
                self.past[run.task_name].counts.update(failures=1, interrupted=1)
                self.past[run.task_name].transient = False
        self.under_way.clear()
        self.loops_begin_anew()
        await self.open()

    def end(self) -> None:
        try:
            self.do(self.close())
        finally:
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.folder)

    # What was seen

    def loops_begin_anew(self) -> None:
        """A definition that a broken file kept alive is gone; nobody waits for another attempt."""
        for name in list(self.good):
            if not isinstance(self.on_disk(name), TaskSpec):
                del self.good[name]
        for name in self.past:
            self.shift(name)

    def shift(self, name: str) -> None:
        """Something happened that may shift a task's due times, or let it run once more."""
        if name in self.past:
            self.past[name].granted += 1
            self.past[name].grid = None

    def on_disk(self, name: str) -> TaskSpec | Exception | None:
        try:
            text = (self.data / "tasks" / f"{name}.json").read_text()
            return TaskSpec.from_file(name, json.loads(text, parse_constant=lambda _: None))
        except FileNotFoundError:
            return None
        except (ValueError, RecServerError) as error:
            return error

    def looked(self) -> None:
        """The server has looked at the task files: take over what it must have found."""
        assert self.clock is not None
        for name in TASKS:
            found, before = self.on_disk(name), self.good.get(name)
            if found is None:
                self.good.pop(name, None)
                self.past.pop(name, None)
                continue
            past = self.past.setdefault(name, Past(self.clock.monotonic()))
            if not isinstance(found, TaskSpec):
                continue
            content = found.model_dump()
            if before != content:
                has_loop = self.scheduled and before is not None and before["enabled"]
                if has_loop and found.enabled and before and before["model_id"] != content["model_id"]:
                    self.past[name] = past = Past(self.clock.monotonic())
                self.shift(name)
                self.good[name] = content
            past.shortest = min(past.shortest, 60 if found.schedule else float(found.interval or 0))

    def note(self) -> None:
        """Take over what events told, and check that nothing began that must not."""
        assert self.clock is not None
        for event in self.seen:
            if isinstance(event, RunStarted):
                self._began(event)
            elif isinstance(event, RunEnded):
                self.under_way.pop(event.run_id)
                self.outcomes[event.run_id] = event.outcome
                if event.model_version is not None:  # the gate may have refused it
                    self.numbers[event.model_id] += 1
                    assert event.model_version == self.numbers[event.model_id]
                    if event.outcome == "completed":
                        self.versions[event.model_id] = event.model_version
                if past := self.past.get(event.task_name):
                    past.counts["failures"] += event.outcome == "failed"
        self.seen.clear()

    def _began(self, event: RunStarted) -> None:
        assert not [one for one in self.under_way.values() if one.model_id == event.model_id], "two on one model"
        assert not [one for one in self.under_way.values() if one.task_name == event.task_name], "two of one task"
        self.under_way[event.run_id] = event
        self.outcomes[event.run_id] = "running"
        past = self.past.get(event.task_name)
        assert past is not None, f"{event.task_name} was removed and runs"
        past.counts["runs"] += 1
        if event.trigger == "run_task":
            return
        definition = self.good.get(event.task_name)
        assert self.scheduled, "it is stopped and runs"
        assert definition and definition["enabled"], f"{event.task_name} is paused, or never was, and runs"
        if event.trigger == "schedule":
            past.attempts = 1
            past.counts["scheduled"] += 1
        else:
            past.attempts += 1
            past.counts["retries"] += 1
            assert past.attempts <= 3, "a fourth attempt"
            assert past.transient, "another attempt at what lasts"

    # What must hold

    async def check(self) -> None:
        rec, clock = self.rec, self.clock
        assert clock is not None
        await clock.settle()
        self.note()
        runs = {run.request.run_id: run for run in rec._services.trainer.runs.values()}
        assert set(runs) == set(self.under_way)
        assert sorted(run.model_id for run in runs.values()) == sorted(
            one.job.model_id for one in self.trainings.running
        )
        listed = await rec.list_tasks()
        assert set(listed) == {name for name in TASKS if self.on_disk(name) is not None}
        for name, task in listed.items():
            self._check_task(name, task)
        for model, info in (await rec.list_models()).items():
            trains = model in rec._services.trainer.runs
            assert (info["status"] in ("training", "validating")) == trains, info
            if version := self.versions.get(model):
                assert (await rec.recommend("u0", model_id=model))["model_version"] == version
        rows = (await rec.list_runs(limit=1000))["data"]
        assert {row["run_id"]: row["outcome"] for row in rows} == self.outcomes
        assert all((row["ended_at"] is None) == (row["outcome"] == "running") for row in rows)

    def _check_task(self, name: str, task: dict[str, Any]) -> None:
        assert self.clock is not None
        past, good = self.past[name], self.good.get(name)
        runs = [run for run in self.under_way.values() if run.task_name == name]
        assert task["running"] == bool(runs), (name, task)
        assert (task["last_status"] == "training") <= bool(runs), (name, task)
        for counter in ("runs", "retries", "failures", "interrupted"):
            assert task[counter] == past.counts[counter], (name, counter, task, past.counts)
        elapsed = self.clock.monotonic() - past.since
        assert past.counts["scheduled"] <= elapsed / past.shortest + past.granted
        loop = self.rec._services.scheduler.loop(name)
        assert (loop is not None) == bool(self.scheduled and good and good["enabled"]), name
        if loop is None or not good or good["schedule"]:
            return
        assert loop.due >= self.clock.monotonic() or loop.is_firing, "a due time has passed and nothing happens"
        assert loop.retry_at is None or loop.retry_at < loop.due
        assert loop.spec.model_dump() == good
        if loop.is_firing:
            return
        if past.grid is not None:
            periods = (loop.due - past.grid) / good["interval"]
            assert abs(periods - round(periods)) < 1e-6, "the due times have shifted"
        past.grid = loop.due

    # Endings

    async def finish(self, training: ScriptedTraining, users: int) -> None:
        training.finish(few_interactions(users))
        await self.bench.clock.settle()

    async def fail(self, training: ScriptedTraining, how: str) -> None:
        run = self.rec._services.trainer.runs[training.job.model_id]
        errors: dict[str, Exception | str] = {
            "transient": SourceFailed("503", transient=True),
            "wait": SourceFailed("429", transient=True, retry_after=7.0),
            "long": SourceFailed("429", transient=True, retry_after=70.0),
            "lasts": SourceFailed("There is no column user_id."),
            "fault": RuntimeError("a fault"),
            "died": WorkerDied("The worker process was killed by signal 9."),
        }
        if run.task_name in self.past:
            self.past[run.task_name].transient = how in ("transient", "wait", "long", "died")
        training.fail(errors[how])
        await self.bench.clock.settle()
