"""A follower asks the writer whatever does not follow from a model alone, and nobody can tell who answered."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession
from pydantic import SecretStr

from recserver import RecServer, Settings
from recserver._internal.core.events import TasksReconciled
from recserver._internal.server.http.routes import ROUTES
from recserver._internal.server.http.writer_proxy import Peers, WriterClient
from recserver._internal.server.sockets import listen, listen_unix
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Answer, Api

KEY = "correct-horse-battery-staple"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


def beside_the_loop(make: Callable[[], socket.socket]) -> Callable[[], Awaitable[list[socket.socket]]]:
    """What gives a server its only socket, made in a thread."""

    async def bind() -> list[socket.socket]:
        return [await asyncio.to_thread(make)]

    return bind


async def follower_of(path: Path, rec: RecServer, stack: AsyncExitStack) -> Api:
    """A client of a server beside ``rec``, which asks the socket at ``path``."""
    settings = rec.settings.model_copy(update={"read_only": True})
    server = RecServer(rec.data_dir, settings, executor=ScriptedExecutor())
    writer = await stack.enter_async_context(WriterClient(path))
    listener = listen(settings)
    await stack.enter_async_context(server.serve_on(beside_the_loop(lambda: listener), Peers(writer)))
    session = await stack.enter_async_context(ClientSession())
    return Api(f"http://127.0.0.1:{listener.getsockname()[1]}", session, server)


@pytest.fixture
async def follower(trained: Api, tmp_path: Path, stack: AsyncExitStack) -> Api:
    """A client of a server that follows the one of ``trained``."""
    path = tmp_path / "requests"
    await stack.enter_async_context(trained.rec.serve_on(beside_the_loop(lambda: listen_unix(path))))
    return await follower_of(path, trained.rec, stack)


@pytest.fixture
async def orphan(trained: Api, tmp_path: Path, stack: AsyncExitStack) -> Api:
    """A client of a follower whose writer is away."""
    return await follower_of(tmp_path / "nobody", trained.rec, stack)


def comparable(answer: Answer) -> tuple[Any, ...]:
    body = answer.body if isinstance(answer.body, dict) else {}
    headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "Content-Length")}
    return answer.status, headers, {name: value for name, value in body.items() if name != "datetime"}


@pytest.mark.slow
async def test_every_route_returns_the_same(follower: Api, trained: Api, subtests: pytest.Subtests) -> None:
    for route in sorted(ROUTES, key=lambda route: route.method == "DELETE"):  # what is there is deleted last
        chef = "none" if route.method == "DELETE" else "c"
        path = route.path.format(model_id="m", data_chef_id=chef, user_id="u0", n="5", run_id="r")
        for prefix in ("", "/api/v1"):
            for asked in (path, f"{path}?model_id=m&user_id=u1&item_id=i0&dry_run=1", f"{path}?model_id=none"):
                with subtests.test(method=route.method, path=prefix + asked):
                    mine = await follower.ask(route.method, prefix + asked)
                    theirs = await trained.ask(route.method, prefix + asked)
                    assert comparable(mine) == comparable(theirs)


BAD_REQUESTS: list[tuple[str, bytes | None, dict[str, str]]] = [
    ("/create_model", b'{"model_id": ', {}),
    ("/create_model", b"[]", {}),
    ("/create_model", b"x" * 2**21, {}),
    ("/create_model", b"{}", {"Content-Type": "text/plain"}),
    ("/create_model", b"{}", {"Content-Encoding": "zip"}),
    ("/create_model", b"no gzip", {"Content-Encoding": "gzip"}),
    ("/create_model?model_id=%FF", b"{}", {}),
    ("/create_model", b"{}", {"X-API-Key": "\udcff"}),
    ("/create_model", b"{}", {"Origin": "http://elsewhere.example"}),
    ("/create_model", b"{}", {"Host": "elsewhere.example"}),
    ("/no_such_address", None, {}),
    ("/list_models", b"{}", {}),
]


async def test_errors_are_the_same(follower: Api, trained: Api, subtests: pytest.Subtests) -> None:
    for path, body, headers in BAD_REQUESTS:
        with subtests.test(path=path, body=str(body)[:50], headers=headers):
            mine, theirs = [await one.ask("POST", path, raw=body, headers=headers) for one in (follower, trained)]
            assert mine.status >= 400
            assert comparable(mine) == comparable(theirs)


async def test_unusual_urls_are_forwarded_unchanged(
    follower: Api, trained: Api, subtests: pytest.Subtests
) -> None:
    for path in (b"/get_model_info/\xff", b"/get_model_info/\xc3\xa9", b"/list_runs?", b"/%2e%2e"):
        with subtests.test(path=path):
            asked = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
            (mine, _, content), (theirs, _, same) = await follower.wire(asked), await trained.wire(asked)
            assert (mine, content) == (theirs, same)


async def test_bodies_are_forwarded_decoded(follower: Api) -> None:
    body = gzip.compress(b'{"model_id": "packed", "algorithm": "nmf"}')
    answer = await follower.ask("POST", "/create_model", raw=body, headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.body["model_id"]) == (200, "packed")
    answer = await follower.ask("GET", "/get_model_info", {"model_id": "packed"})
    assert answer.status == 200


async def test_only_authorized_requests_are_forwarded(
    data_dir: Path, settings: Settings, tmp_path: Path, stack: AsyncExitStack
) -> None:
    guarded = settings.model_copy(update={"api_key": SecretStr(KEY)})
    rec, path = RecServer(data_dir, guarded, executor=ScriptedExecutor()), tmp_path / "requests"
    await stack.enter_async_context(rec.serve_on(beside_the_loop(lambda: listen_unix(path))))
    follower = await follower_of(path, rec, stack)
    assert (await follower.get("/health")).status == 200
    for headers, status in (({}, 401), ({"X-API-Key": KEY}, 200), ({"Authorization": f"Bearer {KEY}"}, 200)):
        assert (await follower.ask("GET", "/list_models", headers=headers)).status == status
        assert (await follower.ask("GET", "/users?model_id=m", headers=headers)).status == (
            status if status == 401 else 404
        )


async def test_requests_that_need_the_writer_are_forwarded(follower: Api, trained: Api, data_dir: Path) -> None:
    file = data_dir / "models/m.pkl"
    await asyncio.to_thread(file.write_bytes, b"damaged")
    answer = await follower.ok("GET", "/recommend/u0/m")  # the writer has it in memory still
    assert answer["predictions"] == (await trained.ok("GET", "/recommend/u0/m"))["predictions"]
    lines = await follower.lines("/recommend_batch", {"model_id": "m", "user_ids": ["u0", "u1"]})
    assert len(lines) == 2


async def test_events_are_forwarded_until_the_client_disconnects(follower: Api, trained: Api) -> None:
    listeners = trained.rec.events._listeners
    before = len(listeners)
    async with ClientSession() as session, session.get(f"{follower.url}/events") as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        assert len(listeners) == before + 1
        trained.rec.events.publish(TasksReconciled(("told",)))
        assert await stream.content.readuntil(b'{"task_names": ["told"]}')
    async with asyncio.timeout(20):
        while len(listeners) > before:
            trained.rec.events.publish(TasksReconciled(()))
            await asyncio.to_thread(int)


async def test_without_a_writer_only_models_are_served(orphan: Api) -> None:
    assert (await orphan.ok("GET", "/recommend/u0/m"))["source"] == "personal"
    assert (await orphan.get("/recommend/u0/none")).code == "model_not_found"
    for method, path in (
        ("GET", "/health"),
        ("GET", "/list_models"),
        ("POST", "/create_model"),
        ("GET", "/events"),
    ):
        answer = await orphan.ask(method, path)
        assert (answer.status, answer.code) == (503, "writer_away")
        assert answer.headers["Retry-After"] == "5" and "nothing was changed" in answer.body["detail"]


async def test_closing_does_not_wait_for_the_writer(orphan: Api) -> None:
    orphan.rec.draining = True
    assert (await orphan.get("/health")).code == "draining"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"])
async def test_a_writer_that_ends_during_a_request(
    trained: Api, tmp_path: Path, stack: AsyncExitStack, said: bytes
) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(end, tmp_path / "ending")
    stack.callback(server.close)
    follower = await follower_of(tmp_path / "ending", trained.rec, stack)
    if said:
        with pytest.raises(ClientError):  # not taken for the whole answer
            await follower.get("/list_models")
    else:
        answer = await follower.post("/run_task", {"task_name": "t"})
        assert (answer.status, answer.code) == (503, "writer_away")
        assert "may have been performed" in answer.body["detail"]
