"""``GET /events`` over real HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession
from pydantic import SecretStr

from recserver import RecServer, Settings
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api

Received = tuple[str, dict[str, Any]]


async def received(stream: ClientResponse) -> AsyncIterator[Received]:
    """The events of a stream, by name and content, until it ends."""
    name = ""
    async for line in stream.content:
        kind, _, value = line.decode().rstrip("\r\n").partition(": ")
        if kind == "event":
            name = value
        elif kind == "data":
            yield name, json.loads(value)


async def until(events: AsyncIterator[Received], last: str) -> list[Received]:
    """The next events, up to one of a certain name."""
    seen = []
    async for event in events:
        seen.append(event)
        if event[0] == last:
            return seen
    raise AssertionError(f"the stream ended without {last}: {seen}")


async def add_task(api: Api, name: str, model_id: str) -> None:
    await api.ok("POST", "/create_model", {"model_id": model_id, "algorithm": "nmf"})
    body = {"task_name": name, "model_id": model_id, "data_chef_id": "c", "interval": 3600}
    await api.ok("POST", "/add_model_task", body)


@pytest.fixture
async def prepared(api: Api) -> Api:
    """A server with a data chef."""
    await api.ok("POST", "/create_data_chef_from_csv", {"data_chef_id": "c", "file_path": "rows.csv"})
    return api


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_all_events_of_a_run_are_streamed(prepared: Api, trainings: ScriptedExecutor, prefix: str) -> None:
    async with ClientSession() as session, session.get(f"{prepared.url}{prefix}/events") as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        events = received(stream)
        await add_task(prepared, "t", "m")
        training = await trainings.next()
        training.progress("reading", 7)
        training.finish()
        seen = await until(events, "run_ended")
    names = [name for name, _ in seen]
    assert names.index("run_started") < names.index("run_progressed") < names.index("model_serves")
    started = next(content for name, content in seen if name == "run_started")
    assert (started["task_name"], started["model_id"], started["trigger"]) == ("t", "m", "schedule")
    stages = [content["stage"] for name, content in seen if name == "run_progressed"]
    assert stages == ["fitting", "reading", "validating", "publishing"]
    ended = seen[-1][1]
    assert (ended["run_id"], ended["outcome"], ended["model_version"]) == (started["run_id"], "completed", 1)


async def test_a_stream_can_be_filtered_by_task(prepared: Api, trainings: ScriptedExecutor) -> None:
    async with ClientSession() as session, session.get(f"{prepared.url}/events?task_name=two") as stream:
        events = received(stream)
        for name in ("one", "two"):
            await add_task(prepared, name, f"m-{name}")
            (await trainings.next()).finish()
        seen = await until(events, "run_ended")
        assert {content["task_name"] for _, content in seen} == {"two"}


async def test_streams_end_when_the_server_closes(data_dir: Any, settings: Settings) -> None:
    rec = RecServer(data_dir, settings, executor=ScriptedExecutor())
    async with ClientSession() as session:
        async with rec.serve() as url:
            stream = await session.get(f"{url}/events")
        names = {name async for name, _ in received(stream)}  # it ends, and ends well
        assert names <= {"tasks_reconciled"}
        stream.close()
    assert not rec.events._listeners


async def test_streams_need_the_key_and_no_other_method(data_dir: Any, settings: Settings) -> None:
    guarded = settings.model_copy(update={"api_key": SecretStr("correct-horse-battery-staple")})
    async with (
        RecServer(data_dir, guarded, executor=ScriptedExecutor()).serve() as url,
        ClientSession() as session,
    ):
        async with session.get(f"{url}/events") as answer:
            assert answer.status == 401
        async with session.get(f"{url}/events", headers={"X-API-Key": "correct-horse-battery-staple"}) as answer:
            assert answer.status == 200
        async with session.post(f"{url}/events", headers={"X-API-Key": "correct-horse-battery-staple"}) as answer:
            assert answer.status == 405


async def test_a_repeated_filter_is_rejected(prepared: Api) -> None:
    answer = await prepared.ask("GET", "/events?task_name=a&task_name=b")
    assert (answer.status, answer.code) == (422, "validation_error")
