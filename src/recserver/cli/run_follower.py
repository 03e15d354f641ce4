"""A run watched from outside until it ends: by the server's events, and by asking where there are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from recserver.cli.client import Client, CommandFailed, Event
from recserver.cli.join import begin_or_join
from recserver.cli.output import printable
from recserver.cli.run_progress import Display, RunProgress
from recserver.core.clock import Clock
from recserver.training.run_outcome import RunOutcome
from recserver.training.run_record import RunRecord

POLL_SECONDS = 1.0
"""Events do not tell everything: iterations, the loss and the time left are asked for."""

MAX_FAILURES = 3
"""Questions in a row without an answer, and no events either; then the server counts as gone."""

STAGES = (
    "waiting", "starting", "reading", "building", "evaluating", "fitting", "packing", "validating", "publishing",
)  # fmt: skip
"""In the order in which they come. An answer may be older than the event before it."""


class RunFollower:
    """Follows one run.

    Attributes:
        run_id: of the run; None until the server has begun it.
    """

    def __init__(self, client: Client, display: Display, clock: Clock) -> None:
        self.run_id: str | None = None
        self._client, self._display, self._clock = client, display, clock
        self._model_id: str | None = None
        self._progress = RunProgress()
        self._is_listening = False
        self._poll_now = asyncio.Event()
        self._reading_since: tuple[float, int] | None = None

    async def run(self, task_name: str) -> dict[str, Any]:
        """Run a task, or join its run that is under way, and return the record of that when it has ended.

        Raises:
            CommandFailed: if it cannot begin, or the server is gone before it ends.
        """
        async with self._client.events(task_name=task_name) as events:  # first, so that none is missed
            answer = await begin_or_join(self._client, task_name)
            self.run_id = str(answer.get("run_id"))
            if answer.get("joined"):
                self._display.say(printable(str(answer["message"])))
            self._display.show(self._progress)
            return await self._wait(events)

    async def _wait(self, events: AsyncIterator[Event] | None) -> dict[str, Any]:
        self._is_listening = events is not None
        polling = asyncio.create_task(self._poll())
        listening = asyncio.create_task(self._listen(events)) if events is not None else None
        tasks = [one for one in (polling, listening) if one is not None]
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
        async for name, told in events:
            if told.get("run_id") != self.run_id:
                continue
            self._model_id = str(told.get("model_id"))
            if name == "run_ended":
                return told
            if name == "run_progressed":
                self._update(told)
        self._is_listening = False
        self._poll_now.set()
        return None

    async def _poll(self) -> dict[str, Any]:
        """The record of the run, once it has ended."""
        failures = 0
        while True:
            try:
                ended = await self._poll_once()
                failures = 0
            except CommandFailed as error:
                if error.status is not None and error.status < 500:
                    raise
                ended, failures = None, failures + (not self._is_listening)
                if failures >= MAX_FAILURES:
                    raise self._server_gone() from None
            if ended is not None:
                return ended
            await self._clock.wait(self._poll_now, self._clock.monotonic() + POLL_SECONDS)
            self._poll_now.clear()

    async def _poll_once(self) -> dict[str, Any] | None:
        """The record of the run if it has ended."""
        if self._model_id is not None:
            with suppress(_ModelGone):
                status = await self._status(self._model_id)
                if status.get("run_id") == self.run_id:
                    self._update(status, may_be_stale=True)
                    return None
        record = await self._client.get("get_run", run_id=self.run_id)
        self._model_id = str(record.get("model_id"))
        return None if record.get("outcome") == RunOutcome.RUNNING else record

    async def _status(self, model_id: str) -> Mapping[str, Any]:
        try:
            answer = await self._client.get("get_training_status", model_id=model_id)
        except CommandFailed as error:
            if error.status == 404:
                raise _ModelGone from None
            raise
        status = answer.get("data")
        return status if isinstance(status, Mapping) else {}

    async def _record(self, ended: Mapping[str, Any]) -> dict[str, Any]:
        """What the history says of a run that ended; what the event said, if the history cannot be read."""
        try:
            return await self._client.get("get_run", run_id=self.run_id)
        except CommandFailed:
            usual = RunRecord(
                data_chef_id="", trigger="run_task", started_at="", **_known_fields(RunRecord, ended)
            )
            return usual.model_dump()

    def _update(self, fields: Mapping[str, Any], *, may_be_stale: bool = False) -> None:
        known = self._progress.model_dump(exclude={"rows_per_second"})
        if fields.get("stage") != self._progress.stage:
            known |= dict.fromkeys(("queue_position", "iteration", "iterations", "loss"))
        try:
            seen = RunProgress.model_validate(known | _known_fields(RunProgress, fields))
        except ValidationError:
            raise self._client.unexpected_response() from None
        if not (may_be_stale and _is_older(seen, self._progress)):
            self._progress = seen.model_copy(update={"rows_per_second": self._rows_per_second(seen)})
            self._display.show(self._progress)

    def _rows_per_second(self, progress: RunProgress) -> float | None:
        """Rows a second since the first were read."""
        if progress.stage != "reading":
            self._reading_since = None
            return None
        now = self._clock.monotonic()
        since, rows = self._reading_since = self._reading_since or (now, progress.rows_read)
        return (progress.rows_read - rows) / (now - since) if now > since else None

    def _server_gone(self) -> CommandFailed:
        return CommandFailed(
            f"The server at {self._client.address} went away during run {self.run_id}: once it is back, "
            f"recserver tasks history --run {self.run_id} tells how that ended."
        )


class _ModelGone(Exception):
    """The model of the run was deleted."""


def _known_fields(kind: type[RunProgress] | type[RunRecord], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in kind.model_fields}


def _is_older(one: RunProgress, other: RunProgress) -> bool:
    """Whether ``one`` is from before ``other``, by their stages."""
    if one.stage not in STAGES or other.stage not in STAGES:
        return False
    return STAGES.index(one.stage) < STAGES.index(other.stage)
