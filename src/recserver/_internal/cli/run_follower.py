"""Starts a run of a task, or joins the current one, and follows it to its end by events and by polling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from recserver._internal.cli.client import Client, CommandFailed, Event
from recserver._internal.cli.run_progress import STAGES, BarDisplay, LineDisplay, RunProgress
from recserver._internal.core.clock import Clock
from recserver._internal.core.errors import escape
from recserver._internal.results.runs import RunOutcome, RunRecord

MAX_ATTEMPTS = 3
"""Attempts to start a run: one that blocks it may end before it can be joined."""

POLL_SECONDS = 1.0
"""Events are not enough: iterations, the loss and the remaining time are only in the training status."""

MAX_FAILURES = 3
"""Failed requests in a row, without events meanwhile, after which the server counts as gone."""


async def start_or_join(client: Client, task_name: str) -> dict[str, Any]:
    """The response of ``run_task``, or the same for the current run of the task, with ``joined``.

    Raises:
        CommandFailed: if the task cannot run, such as when another task trains its model.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return await client.post("run_task", task_name=task_name)
        except CommandFailed as error:
            if error.status != 409:
                raise
            if (joined := await _current_run(client, task_name)) is not None:
                return joined
            if attempt == MAX_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


async def _current_run(client: Client, task_name: str) -> dict[str, Any] | None:
    """The running run of the task, if it trains the model that the task names now."""
    task = (await client.get("list_tasks")).get(task_name)
    if not isinstance(task, dict) or not task.get("running") or not task.get("last_run_id"):
        return None
    run = await client.get("get_run", run_id=task["last_run_id"])
    if run.get("outcome") != RunOutcome.RUNNING or run.get("model_id") != task.get("model_id"):
        return None
    return {
        "message": f"Task {task_name} is already training model {run['model_id']}; joined that run.",
        "task_name": task_name,
        "model_id": run["model_id"],
        "run_id": run.get("run_id"),
        "joined": True,
    }


class RunFollower:
    """Follows one run.

    Attributes:
        run_id: of the run; None until the server has started it.
    """

    def __init__(self, client: Client, display: LineDisplay | BarDisplay, clock: Clock) -> None:
        self.run_id: str | None = None
        self._client, self._display, self._clock = client, display, clock
        self._model_id: str | None = None
        self._progress = RunProgress()
        self._is_listening = False
        self._poll_now = asyncio.Event()
        self._reading_since: tuple[float, int] | None = None

    async def run(self, task_name: str) -> dict[str, Any]:
        """Run a task, or join its current run, and return the record of the run once it has ended.

        Raises:
            CommandFailed: if the run cannot start, or the server goes away before it ends.
        """
        async with self._client.events(task_name=task_name) as events:  # opened first, so that none is missed
            response = await start_or_join(self._client, task_name)
            self.run_id = str(response.get("run_id"))
            if response.get("joined"):
                self._display.say(escape(str(response["message"])))
            self._display.show(self._progress)
            return await self._wait(events)

    async def _wait(self, events: AsyncIterator[Event] | None) -> dict[str, Any]:
        self._is_listening = events is not None
        polling = asyncio.create_task(self._poll())
        listening = asyncio.create_task(self._listen(events)) if events is not None else None
        tasks = [task for task in (polling, listening) if task is not None]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if listening and listening.done() and (ended := listening.result()):
                return await self._record(ended)
            return await polling
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, events: AsyncIterator[Event]) -> Mapping[str, Any] | None:
        """The event of the run's end; None if the stream ended before it."""
        async for name, fields in events:
            if fields.get("run_id") != self.run_id:
                continue
            self._model_id = str(fields.get("model_id"))
            if name == "run_ended":
                return fields
            if name == "run_progressed":
                self._update(fields)
        self._is_listening = False
        self._poll_now.set()
        return None

    async def _poll(self) -> dict[str, Any]:
        """The record of the run, once it has ended."""
        failures = 0
        while True:
            try:
                record = await self._poll_once()
                failures = 0
            except CommandFailed as error:
                if 0 < error.status < 500:
                    raise
                record, failures = None, failures + (not self._is_listening)
                if failures >= MAX_FAILURES:
                    raise self._server_gone() from None
            if record is not None:
                return record
            await self._clock.wait(self._poll_now, self._clock.monotonic() + POLL_SECONDS)
            self._poll_now.clear()

    async def _poll_once(self) -> dict[str, Any] | None:
        """The record of the run if it has ended."""
        if self._model_id is not None and (status := await self._training_status(self._model_id)) is not None:
            self._update(status, may_be_stale=True)
            return None
        record = await self._client.get("get_run", run_id=self.run_id)
        self._model_id = str(record.get("model_id"))
        return None if record.get("outcome") == RunOutcome.RUNNING else record

    async def _training_status(self, model_id: str) -> Mapping[str, Any] | None:
        """The training status of the model; None if it does not belong to this run, or the model was deleted."""
        try:
            status = (await self._client.get("get_training_status", model_id=model_id)).get("data")
        except CommandFailed as error:
            if error.status == 404:
                return None
            raise
        return status if isinstance(status, Mapping) and status.get("run_id") == self.run_id else None

    async def _record(self, ended: Mapping[str, Any]) -> dict[str, Any]:
        """The record of a run that has ended; the fields of its last event if the history cannot be read."""
        with suppress(CommandFailed):
            return await self._client.get("get_run", run_id=self.run_id)
        known = {name: ended[name] for name in RunRecord.__struct_fields__ if name in ended}
        return RunRecord(data_chef_id="", trigger="run_task", started_at="", **known).to_dict()

    def _update(self, fields: Mapping[str, Any], *, may_be_stale: bool = False) -> None:
        known = self._progress.model_dump(exclude={"rows_per_second"})
        fields = {name: value for name, value in fields.items() if name in RunProgress.model_fields}
        if fields.get("stage") != self._progress.stage:
            known |= dict.fromkeys(("queue_position", "iteration", "iterations", "loss"))
        try:
            progress = RunProgress.model_validate(known | fields)
        except ValidationError:
            raise self._client.unexpected_response() from None
        if not (may_be_stale and _is_older(progress, self._progress)):
            self._progress = progress.model_copy(update={"rows_per_second": self._rows_per_second(progress)})
            self._display.show(self._progress)

    def _rows_per_second(self, progress: RunProgress) -> float | None:
        """Rows per second since the first were read."""
        if progress.stage != "reading":
            self._reading_since = None
            return None
        now = self._clock.monotonic()
        since, rows = self._reading_since = self._reading_since or (now, progress.rows_read)
        return (progress.rows_read - rows) / (now - since) if now > since else None

    def _server_gone(self) -> CommandFailed:
        return CommandFailed(
            f"The server at {self._client.address} stopped answering during run {self.run_id}: once it is back, "
            f"recserver tasks history --run {self.run_id} shows how the run ended."
        )


def _is_older(first: RunProgress, second: RunProgress) -> bool:
    """Whether ``first`` is from before ``second``, by stages: a response may be older than the last event."""
    if first.stage not in STAGES or second.stage not in STAGES:
        return False
    return STAGES.index(first.stage) < STAGES.index(second.stage)
