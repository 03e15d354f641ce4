"""Trainings of a model watched through all operations at once: each response must be consistent, and in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import ClientSession

from recserver import RecServer
from recserver._internal.core.errors import RecServerError
from recserver._internal.core.events import RunEnded

BEGUN, VALIDATING, ENDED = 1, 2, 3
"""How far a run is."""

STAGES = {
    "training": (BEGUN, BEGUN),
    "running": (BEGUN, VALIDATING),
    "validating": (VALIDATING, VALIDATING),
    "": (0, ENDED),
}
"""The least and the most that a status, or an outcome, tells of that; an empty one tells nothing."""


class Refused(Exception):
    """An answer that is an error; its argument is the code."""


Ask = Callable[..., Awaitable[dict[str, Any]]]
"""Calls an operation by its name, with its fields by keyword."""


def asks_library(rec: RecServer) -> Ask:
    """The operations of a server in this process."""

    async def ask(operation: str, **fields: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await getattr(rec, operation)(**fields)
        except RecServerError as error:
            raise Refused(error.code, str(error)) from None
        return answer

    return ask


def asks_http(http: ClientSession) -> Ask:
    """The same over HTTP."""

    async def ask(operation: str, **fields: Any) -> dict[str, Any]:
        looks = operation.startswith(("get_", "list_", "recommend"))
        how: dict[str, Any] = {"params": fields} if looks else {"json": fields}
        async with http.request("GET" if looks else "POST", f"/{operation}", **how) as response:
            answer: dict[str, Any] = await response.json()
        if response.status != 200:
            raise Refused(answer["code"], answer["error"])
        return answer

    return ask


class Trainings(Protocol):
    """Lets trainings end as planned."""

    async def prepare(self, kind: str) -> None:
        """Called before a run with this outcome is started."""
        ...

    async def conduct(self, kind: str, model_id: str) -> None:
        """Called when it has been started."""
        ...


@dataclass
class Watched:
    """One model, from its creation through runs that end as ``plan`` says.

    The operations, the config on the disk and the events are watched at once. The watcher whose turn it is starts
    the next run as soon as it sees the end of the last one.
    """

    rec: RecServer
    ask: Ask
    model_id: str
    plan: list[str]
    trainings: Trainings
    run_ids: list[str] = field(default_factory=list)
    stage: int = 0
    """The progress of the last run, as far as any watcher has seen."""
    pause: float = 0
    """Seconds between two reads of a watcher."""
    turn: int = 0
    """The watcher that starts the next run."""
    starting: bool = False
    seen: set[tuple[str, str]] = field(default_factory=set)
    """What each watcher has seen."""
    began: set[str] = field(default_factory=set)
    """Watchers that started a run, or saw the last one end."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _conducting: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def number(self) -> int:
        """Runs started so far."""
        return len(self.run_ids)

    @property
    def outcome(self) -> str:
        """The planned outcome of the last run that was started."""
        return self.plan[self.number - 1]

    @property
    def versions(self) -> int:
        """Versions that the runs before the last one made."""
        return self.plan[: self.number - 1].count("completed")

    async def run(self) -> None:
        """Create the model, begin the first run, and watch until the last one has ended."""
        await self.ask(
            "create_model", model_id=self.model_id, algorithm="nmf", hyperparameters={"n_components": 2}
        )
        task = {"task_name": self.model_id, "model_id": self.model_id, "data_chef_id": "c"}
        await self.ask("add_model_task", **task, interval=3600, enabled=False)
        watchers = [self._ask_on(one, *OPERATIONS[one]) for one in OPERATIONS] + [
            self._read_file(),
            self._listen(),
        ]
        watchers += [self._ask_on("list_model_versions", _of_model, _versions), self._recommend()]
        watching = [asyncio.create_task(one) for one in watchers]
        try:
            await self._begin()
            over = asyncio.create_task(self.over.wait())
            done, _ = await asyncio.wait([over, *watching], return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
            assert over in done
        finally:
            for one in (*watching, *self._conducting):
                one.cancel()
            await asyncio.gather(*watching, *self._conducting, return_exceptions=True)

    async def _begin(self) -> None:
        """Start the next run, which must be accepted."""
        kind = self.plan[self.number]
        self.starting = True
        await self.trainings.prepare(kind)
        answer = await self.ask("run_task", task_name=self.model_id)
        self.run_ids.append(answer["run_id"])
        self.stage, self.starting = BEGUN, False
        conducting = asyncio.create_task(self.trainings.conduct(kind, self.model_id))
        self._conducting.add(conducting)
        conducting.add_done_callback(self._conducting.discard)

    async def _saw_end(self, watcher: str) -> None:
        """Start the next run, if it is this watcher's turn."""
        if WATCHERS[self.turn % len(WATCHERS)] != watcher or self.starting or self.over.is_set():
            return
        self.began.add(watcher)
        self.turn += 1
        if self.number == len(self.plan):
            self.over.set()
        else:
            await self._begin()

    async def _ask_on(self, operation: str, fields: Fields, check: Check) -> None:
        """Call an operation repeatedly, and compare each response with what was seen before the call."""
        while True:
            before, least = self.number, self.stage
            quiet = not self.starting
            try:
                answer = await self.ask(operation, **fields(self))
            except Refused as refused:
                assert (operation, refused.args[0], before) == ("get_run", "run_not_found", 0), refused
                continue
            finally:
                await asyncio.sleep(self.pause)
            if not quiet or self.starting or before != self.number or self.number == 0:
                if operation in ("get_model_info", "list_models"):
                    check_model(answer if operation == "get_model_info" else answer[self.model_id])
                continue
            status = check(self, answer)
            first, last = STAGES.get(status, (ENDED, ENDED))
            assert last >= least, (operation, status, least, answer)
            self.stage = max(self.stage, first)
            self.seen.add((operation, status))
            if first == ENDED:
                assert status == self.outcome, (operation, status, answer)
                await self._saw_end(operation)

    async def _read_file(self) -> None:
        """Read the model's config on the disk, as another process would."""
        path = self.rec.data_dir / "models" / f"{self.model_id}_config.json"
        while True:
            before, quiet = self.number, not self.starting
            config = json.loads(await asyncio.to_thread(path.read_bytes))
            if quiet and not self.starting and before == self.number > 0 and config["status"] not in STAGES:
                assert config["status"] == self.outcome
                self.seen.add(("file", config["status"]))
                await self._saw_end("file")
            await asyncio.sleep(self.pause)

    async def _listen(self) -> None:
        """Listen to all ends of runs, and start the next run if it is this watcher's turn."""
        with self.rec.events.listen() as events:
            while True:
                ended = await events.next(RunEnded, lambda one: one.model_id == self.model_id)
                if not self.starting:
                    assert (ended.run_id, ended.outcome) == (self.run_ids[-1], self.outcome)
                    self.seen.add(("events", ended.outcome))
                    await self._saw_end("events")

    async def _recommend(self) -> None:
        """Request recommendations: once a version has served, one always does."""
        last = 0
        while True:
            try:
                answer = await self.ask("recommend", user_id="u0", model_id=self.model_id)
            except Refused as refused:
                assert (refused.args[0], last) == ("model_not_trained", 0), refused
            else:
                assert answer["model_version"] >= last
                last = answer["model_version"]
            await asyncio.sleep(self.pause)


def check_model(model: Mapping[str, Any]) -> str:
    """A model as ``list_models`` returns it."""
    status = model["status"]
    trained = "model_version" in model
    assert model["needs_training"] is not trained, model
    assert model["model_file_exists"] is trained, model
    assert ("training_completed_at" in model) is trained, model
    match status:
        case "initializing":
            assert not trained and "error" not in model, model
        case "completed":
            assert trained and "error" not in model and model["loaded_in_memory"], model
        case "failed":
            assert model["error"] and model["failed_at"], model
        case "stopped":
            assert model["stopped_at"], model
        case _:
            assert status in ("training", "validating"), model
    if "in_training_state" in model:
        assert model["in_training_state"] is (status in ("training", "validating")), model
        assert (model["progress"] is not None) is model["in_training_state"], model
    return str(status)


def _model(of: Watched, model: Mapping[str, Any]) -> str:
    status = check_model(model)
    assert model.get("model_version", 0) == of.versions + (status == "completed"), model
    return status


def _training(of: Watched, answer: Mapping[str, Any]) -> str:
    status, run_id = answer["data"]["status"], answer["data"]["run_id"]
    assert run_id == (of.run_ids[-1] if status in STAGES else None), answer
    assert (answer["data"]["stage"] is None) is (run_id is None), answer
    return str(status)


def _task(of: Watched, tasks: Mapping[str, Any]) -> str:
    task = tasks[of.model_id]
    status = task["last_status"]
    assert task["running"] is (status == "training"), task
    assert (task["last_run_id"], task["runs"]) == (of.run_ids[-1], of.number), task
    assert (task["last_error"] is not None) is (status == "failed"), task
    ended = of.plan[: of.number] if status != "training" else of.plan[: of.number - 1]
    assert task["failures"] == ended.count("failed"), task
    assert (task["last_success_at"] is not None) is ("completed" in ended), task
    return "running" if status == "training" else str(status)


def _run(of: Watched, run: Mapping[str, Any]) -> str:
    outcome = run["outcome"]
    assert run["run_id"] == of.run_ids[-1], run
    assert (run["ended_at"] is None) is (run["seconds"] is None) is (outcome == "running"), run
    assert (run["error"] is not None) is (outcome == "failed"), run
    assert run["model_version"] == (of.versions + 1 if outcome == "completed" else None), run
    return str(outcome)


def _runs(of: Watched, answer: Mapping[str, Any]) -> str:
    last, *before = answer["data"]
    assert [run["outcome"] for run in reversed(before)] == of.plan[: of.number - 1], answer
    return _run(of, last)


def _versions(of: Watched, answer: Mapping[str, Any]) -> str:
    numbers = [one["model_version"] for one in answer["data"]]
    assert [one["serving"] for one in answer["data"]] == [True, False, False, False][: len(numbers)], answer
    assert numbers in ([*range(of.versions, 0, -1)], [*range(of.versions + 1, 0, -1)])
    assert len(numbers) == of.versions or of.outcome == "completed"
    if of.outcome != "completed":
        return ""
    return "completed" if len(numbers) > of.versions else "running"


def _of_model(of: Watched) -> dict[str, Any]:
    return {"model_id": of.model_id}


Fields = Callable[[Watched], dict[str, Any]]

Check = Callable[[Watched, Mapping[str, Any]], str]
"""Checks a response; returns the status, or the outcome, of the last run."""

OPERATIONS: dict[str, tuple[Fields, Check]] = {
    "get_model_info": (_of_model, _model),
    "list_models": (lambda of: {}, lambda of, answer: _model(of, answer[of.model_id])),
    "get_training_status": (_of_model, _training),
    "list_tasks": (lambda of: {}, _task),
    "list_runs": (_of_model, _runs),
    "get_run": (lambda of: {"run_id": of.run_ids[-1] if of.run_ids else "none"}, _run),
}
"""Arguments of each operation, and the check of its response."""

WATCHERS = [*OPERATIONS, "file", "events"]
"""The watchers that may start the next run."""
