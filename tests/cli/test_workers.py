"""``recserver serve --workers N``: several processes on one port, of which one writes the folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from aiohttp import ClientError, ClientResponse, ClientSession

from recserver._internal.recommend.model.loading import load_model
from tests.helpers.cli_call import Command
from tests.helpers.cli_process import Start, line_with, starter
from tests.helpers.cli_service import Serve, Service, called, ok, role_of, server_starter
from tests.helpers.film_models import put_films
from tests.helpers.pids import children_of, ended, lives
from tests.helpers.request_mixes import asked_over_http


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """The data folder, with the trained model ``films``."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    put_films(models)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def shared_films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of ``shared``, with the trained model ``films``."""
    folder = tmp_path_factory.mktemp("shared") / "data"
    put_films(folder / "models")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def start_beside(shared_films: Path) -> AsyncIterator[Start]:
    """Starts ``recserver ARGUMENTS`` beside the data folder of ``shared``."""
    async with starter(shared_films.parent) as start:
        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(start_beside: Start) -> AsyncIterator[Service]:
    """A service of a writer and two followers, for tests that leave it as it was."""
    async with server_starter(start_beside) as serve:
        yield await serve(3)


pytestmark = pytest.mark.process

on_shared_loop = pytest.mark.asyncio(loop_scope="module")
"""For the tests of the shared service."""


async def until(check: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Return once an asynchronous check holds."""
    async with asyncio.timeout(seconds):
        while not await check():
            passed = asyncio.Event()
            asyncio.get_running_loop().call_later(0.02, passed.set)
            await passed.wait()


async def event(stream: ClientResponse, name: str) -> dict[str, Any]:
    """The content of the next event of one name."""
    async for line in stream.content:
        if line.decode().strip() == f"event: {name}":
            content: dict[str, Any] = json.loads((await stream.content.readline()).decode().partition(": ")[2])
            return content
    raise AssertionError(f"the stream ended without {name}")


async def versions(clients: dict[int, ClientSession]) -> list[Any]:
    """The model version from which each process answers."""
    found = []
    for one in clients.values():
        status, answer = await called(one, "GET", "/recommend/u1/m")
        found.append(answer["model_version"] if status == 200 else (status, answer["code"]))
    return found


@on_shared_loop
async def test_all_processes_serve_the_same_models(shared: Service, shared_films: Path) -> None:
    service = shared
    clients = await service.to_each()
    assert [len(service.pids(role)) for role in ("writer", "follower")] == [1, 2]
    pid, another = service.pids("follower")
    one, other, listening = clients[pid], clients[another], await service.to(pid)
    rows = shared_films / "rows.csv"
    rows.write_text("user_id,item_id\nu1,a\nu2,a\nu2,b\n")
    await ok(one, "POST", "/create_data_chef_from_csv", data_chef_id="c", file_path="rows.csv")
    await ok(other, "POST", "/create_model", model_id="m", algorithm="popular")
    async with listening.get("/events?model_id=m") as events:
        body = {"task_name": "t", "model_id": "m", "data_chef_id": "c", "interval": 3600}
        await ok(one, "POST", "/add_model_task", **body)
        await event(events, "run_ended")
        assert await versions(clients) == [1, 1, 1]
        rows.write_text("user_id,item_id\nu1,a\nu2,a\nu2,b\nu3,c\n")
        await ok(other, "POST", "/run_task", task_name="t")
        await event(events, "run_ended")
    # All processes serve the new version when the event is sent.
    assert (await ok(one, "GET", "/get_model_info/m"))["status"] == "completed"
    assert await versions(clients) == [2, 2, 2]
    await ok(other, "POST", "/rollback_model", model_id="m")
    assert await versions(clients) == [1, 1, 1]
    await ok(clients[service.writer], "POST", "/create_model", model_id="m", algorithm="popular", overwrite=True)
    assert await versions(clients) == [(409, "model_not_trained")] * 3
    await ok(one, "DELETE", "/delete_model/m?force=true")
    assert await versions(clients) == [(404, "model_not_found")] * 3


@on_shared_loop
async def test_each_process_answers_every_request_as_if_it_were_alone(shared: Service, shared_films: Path) -> None:
    model = await asyncio.to_thread(load_model, shared_films / "models" / "films.pkl")
    async with ClientSession(shared.url) as anywhere:
        clients = [anywhere, *(await shared.to_each()).values()]
        await asyncio.gather(*(asked_over_http(one, model[1], seed) for seed, one in enumerate(clients)))


@on_shared_loop
async def test_a_follower_that_is_killed_is_replaced(shared: Service) -> None:
    service = shared
    victim, other = service.pids("follower")
    client = await service.to(service.writer)
    os.kill(victim, signal.SIGKILL)
    line = await line_with(service.supervisor, "restarting it")
    assert f"the follower (process {victim}) was killed by signal 9" in line
    await ok(client, "GET", "/recommend/ann/films")

    async def replaced() -> bool:
        return len(service.pids("follower") - {victim}) == 2

    await until(replaced)
    (follower,) = service.pids("follower") - {other}
    await ok(await service.to(follower), "GET", "/recommend/ann/films")
    assert len(service.pids()) == 3


async def test_without_its_writer_the_service_keeps_answering(serve: Serve, films: Path) -> None:
    service = await serve(2)
    victim, (follower,) = service.writer, service.pids("follower")
    client, streaming = await service.to(follower), await service.to(follower)
    async with streaming.get("/events") as events:
        service.supervisor.send_signal(signal.SIGSTOP)  # so that it does not restart the writer yet
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(ClientError):
            while await events.content.readline():
                pass
    assert (await ok(client, "GET", "/recommend/ann/films"))["model_version"] == 1
    assert (await called(client, "GET", "/recommend/ann/none"))[1]["code"] == "model_not_found"
    async with client.post("/create_model", json={"model_id": "m", "algorithm": "nmf"}) as refused:
        content = await refused.json()
        assert (refused.status, content["code"]) == (503, "writer_away")
        assert int(refused.headers["Retry-After"]) > 0 and "try again" in content["detail"]
    service.supervisor.send_signal(signal.SIGCONT)
    assert f"the writer (process {victim})" in await line_with(service.supervisor, "restarting it")

    async def deleted() -> bool:
        return (await called(client, "DELETE", "/delete_model/films"))[0] == 200

    await until(deleted)
    assert (await called(client, "GET", "/recommend/ann/films"))[0] == 404  # it follows the new writer already
    await ok(client, "POST", "/create_model", model_id="m", algorithm="nmf")
    assert service.writer != victim
    holder = json.loads((films / ".lock").read_text())
    assert holder["pid"] == service.supervisor.pid  # the process to stop, to get the folder


@pytest.mark.slow
@pytest.mark.parametrize("signals", ["Ctrl-C for the group", "SIGTERM for each process, twice"])
async def test_signals_to_all_processes_end_them(serve: Serve, films: Path, signals: str) -> None:
    service = await serve(2)
    pids, (follower,) = service.pids(), service.pids("follower")
    client = await service.to(follower)
    async with client.get("/events") as stream:
        if signals == "Ctrl-C for the group":
            os.killpg(service.supervisor.pid, signal.SIGINT)
        else:
            for pid in [*pids, *pids]:
                os.kill(pid, signal.SIGTERM)
            service.supervisor.terminate()
        async for _ in stream.content:  # a complete response: otherwise this raises an error
            pass
    await ended_well(service, pids, films)


async def ended_well(service: Service, pids: set[int], folder: Path) -> None:
    """Check that all processes of a service end without an error."""
    _, err = await service.supervisor.communicate()
    assert service.supervisor.returncode == 0, err.decode()
    assert "Traceback" not in err.decode()
    assert [pid for pid in pids if lives(pid)] == []
    assert (folder / ".lock").read_text() == ""


@pytest.mark.parametrize("moment", ["its first process was started", "that one has the folder"])
async def test_ctrl_c_at_the_start(start: Start, tmp_path: Path, moment: str) -> None:
    supervisor, lock = await start("serve", "--port", "0", "--workers", "2"), tmp_path / "data/.lock"

    async def started() -> bool:
        if moment == "that one has the folder":
            return lock.exists() and lock.read_text() != ""
        return any(role_of(pid) for pid in children_of(supervisor.pid))

    await until(started)
    os.killpg(supervisor.pid, signal.SIGINT)
    _, err = await supervisor.communicate()
    lines = [line.split(maxsplit=2)[2] for line in err.decode().splitlines()]
    assert (supervisor.returncode, lines[-1]) == (0, "closed")
    assert [line for line in lines if "closing" not in line] == ["closed"]


class Request(NamedTuple):
    """A request that waits for its source."""

    response: asyncio.Future[tuple[int, Any]]
    answer: asyncio.Event  # set: the source answers


@asynccontextmanager
async def request_in_flight(client: ClientSession) -> AsyncIterator[Request]:
    """A request for the preview of a data chef, whose source has been contacted and does not answer yet."""
    contacted, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        contacted.set()
        await may_answer.wait()
        rows = b'[{"user_id": "u1", "item_id": "a"}]'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(rows), rows))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as source:
        url = f"http://127.0.0.1:{source.sockets[0].getsockname()[1]}/rows"
        await ok(client, "POST", "/create_data_chef_from_api", data_chef_id="c", url=url)
        response = asyncio.ensure_future(called(client, "GET", "/preview_data_chef/c"))
        reached = asyncio.ensure_future(contacted.wait())
        await asyncio.wait([reached, response], return_when=asyncio.FIRST_COMPLETED)
        assert not response.done(), response.result()
        yield Request(response, may_answer)
        may_answer.set()


@pytest.mark.slow
async def test_requests_in_flight_finish_when_the_supervisor_is_stopped(serve: Serve, films: Path) -> None:
    service = await serve(3)
    pids, (follower, other) = service.pids(), service.pids("follower")
    client, streaming = await service.to(follower), await service.to(other)
    async with request_in_flight(client) as request, streaming.get("/events") as stream:
        service.supervisor.terminate()
        await line_with(service.supervisor, "closing")
        request.answer.set()
        assert (await request.response)[0] == 200
        async for _ in stream.content:  # a complete response: otherwise this raises an error
            pass
        await ended_well(service, pids, films)


@pytest.mark.slow
async def test_a_second_signal_ends_requests_in_flight(serve: Serve) -> None:
    service = await serve(2)
    pids, (follower,) = service.pids(), service.pids("follower")
    async with request_in_flight(await service.to(follower)) as request:
        service.supervisor.terminate()
        await line_with(service.supervisor, "closing")
        service.supervisor.terminate()
        await asyncio.gather(*(ended(pid) for pid in pids))
        with pytest.raises(ClientError):
            await request.response
        await service.supervisor.communicate()
        assert service.supervisor.returncode == 130


async def test_nothing_outlives_a_killed_supervisor(serve: Serve, films: Path) -> None:
    service = await serve(3)
    pids = service.pids()
    assert len(pids) == 3
    service.supervisor.kill()
    await asyncio.gather(*(ended(pid) for pid in pids))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens, which would share it."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


async def test_a_port_in_use_is_not_shared_with_another_program(start: Start, taken: int, tmp_path: Path) -> None:
    process = await start("serve", "--workers", "2", "--port", str(taken))
    _, err = await process.communicate()
    (line,) = err.decode().splitlines()
    assert (process.returncode, f":{taken}" in line, "--port" in line) == (2, True, True)
    assert not (tmp_path / "data").exists()


@on_shared_loop
@pytest.mark.slow
async def test_a_second_service_finds_port_and_folder_taken(shared: Service, start_beside: Start) -> None:
    service = shared
    for data, status, says in (("data", 3, f"process {service.supervisor.pid} "), ("other", 2, "--port")):
        for workers in ("2", "1"):
            words = ("serve", "--workers", workers, "--port", str(service.port), "--data", data)
            second = await start_beside(*words)
            _, err = await second.communicate()
            (line,) = err.decode().splitlines()
            assert second.returncode == status and says in line, line
    assert len(service.pids()) == 3


async def test_an_error_of_the_first_process_is_reported_once(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    process = await start("serve", "--workers", "4", "--port", "0")
    _, err = await process.communicate()
    (line,) = err.decode().splitlines()
    assert (process.returncode, "choose another with --data" in line) == (2, True)


@pytest.mark.parametrize("value", ["0", "-1", "257"])
def test_invalid_numbers_of_processes_are_refused(command: Command, value: str) -> None:
    for arguments, environment in (
        (("--workers", value), {}),
        ((), {"RECSERVER_WORKERS": value}),
    ):
        status, _, err = command("serve", *arguments, **environment)
        (line,) = err.splitlines()
        assert (status, "RECSERVER_WORKERS" in line) == (2, True)


async def test_read_only_processes_have_no_writer(serve: Serve, films: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in films.rglob("*")}
    service = await serve(2, "--read-only")
    assert len(service.pids("reader")) == 2
    for client in (await service.to_each()).values():
        assert await ok(client, "GET", "/health") == {"status": "ok", "read_only": True}
        await ok(client, "GET", "/recommend/ann/films")
        assert (await called(client, "POST", "/create_model", model_id="m"))[1]["code"] == "read_only"
    assert {path: path.stat().st_mtime_ns for path in films.rglob("*")} == before


@on_shared_loop
async def test_followers_load_no_heavy_library(shared: Service) -> None:
    service = shared
    for pid, client in (await service.to_each()).items():
        await ok(client, "GET", "/recommend/ann/films")
        await ok(client, "GET", "/similar_items?model_id=films&item_id=big")
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "numpy" in mapped
        for heavy in ("pandas", "scipy", "sklearn", "numba", "pyarrow", "llvmlite"):
            assert f"/{heavy}" not in mapped
    maps = Path(f"/proc/{service.supervisor.pid}/maps").read_text()
    assert "numpy" not in maps and "aiohttp" not in maps
