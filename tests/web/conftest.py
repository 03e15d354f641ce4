"""Asking a server over real HTTP, with every answer held to the conventions that all answers share."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from recserver import RecServer, Settings
from recserver.errors import TrainingFailed
from recserver.events import RunEnded
from recserver.executors import OnProgress
from recserver.specs.jobs import Progress, TrainingJob, TrainingResult

ROWS = "user_id,item_id,rating\n" + "".join(f"u{u},i{i},{1 + (u * i) % 5}\n" for u in range(20) for i in range(u % 7, 12))
"""u3 has i3 to i11, so only i0, i1 and i2 are new to them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. ``body`` is its JSON, None if it had no body."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        """The code of an error."""
        return self.body.get("code") if isinstance(self.body, dict) else None

    @property
    def locs(self) -> list[list[str]]:
        """The places that a 422 finds fault with."""
        return [error["loc"] for error in self.body["errors"]]


def checked(status: int, headers: Mapping[str, str], content: bytes, asked: str) -> Answer:
    """The answer to ``asked``, which must be JSON, and in the one shape of errors if it is one."""
    assert headers.get("Content-Type") == "application/json", f"{asked}: {status} {headers}"
    assert status != 500, f"{asked}: {content!r}"
    if asked.startswith("HEAD "):
        assert content == b"", asked
        return Answer(status, headers, None)
    body = json.loads(content)
    if status == 200:
        assert isinstance(body, dict), f"{asked}: {content!r}"
        return Answer(status, headers, body)
    assert 400 <= status < 600, f"{asked}: {status}"
    assert body["detail"] == body["error"], f"{asked}: {content!r}"
    assert isinstance(body["detail"], str) and len(body["detail"]) > 10, f"{asked}: {content!r}"
    assert isinstance(body["code"], str), f"{asked}: {content!r}"
    assert ("errors" in body) == (status == 422), f"{asked}: {content!r}"
    for error in body.get("errors", ()):
        assert set(error) == {"loc", "msg"}, f"{asked}: {content!r}"
        assert error["loc"][0] in ("path", "query", "body"), f"{asked}: {content!r}"
        assert isinstance(error["msg"], str) and error["msg"], f"{asked}: {content!r}"
    assert status != 422 or body["errors"], f"{asked}: {content!r}"
    assert body.get("authenticated") is (False if status == 401 else None), f"{asked}: {content!r}"
    return Answer(status, headers, body)


class Api:
    """A client of one server. Paths are sent as they are, so they come percent-encoded."""

    def __init__(self, url: str, session: ClientSession, rec: RecServer) -> None:
        self.url, self.rec = url, rec
        self._session = session

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and check its answer. ``body`` goes as JSON; ``raw`` goes as it is."""
        content = raw if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if content is not None else {}
        async with self._session.request(
            method,
            URL(self.url + path, encoded=True),
            data=content,
            headers=sent | dict(headers or {}),
            skip_auto_headers=["Content-Type"],
        ) as response:
            asked = f"{method} {path[:200]} {(content or b'')[:200]!r}"
            return checked(response.status, response.headers, await response.read(), asked)

    async def get(self, path: str) -> Answer:
        return await self.ask("GET", path)

    async def post(self, path: str, body: object = None) -> Answer:
        return await self.ask("POST", path, body)

    async def ok(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The body of an answer that must be 200."""
        answer = await self.ask(method, path, body)
        assert answer.status == 200, f"{method} {path}: {answer.body}"
        return dict(answer.body)

    async def wire(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes that need not be HTTP; (status, headers, body) of the answer, status 0 if there is none."""
        reader, writer = await asyncio.open_connection(URL(self.url).host, URL(self.url).port)
        try:
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().strip().split("\r\n")
            headers = {name.title(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers.get("Content-Length", 0)))
            return int(first.split()[1]), headers, body
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, {}, b""
        finally:
            writer.close()


class HeldExecutor:
    """Trainings that last until they are cancelled, or fail with the sentence that ``failure`` holds."""

    def __init__(self) -> None:
        self.failure: str | None = None

    async def run(self, job: TrainingJob, on_progress: OnProgress) -> TrainingResult:
        on_progress(Progress(stage="reading"))
        if self.failure is None:
            await asyncio.get_running_loop().create_future()
        raise TrainingFailed(str(self.failure))

    async def close(self) -> None:
        """Nothing is left to end."""


@pytest.fixture
def executor() -> HeldExecutor:
    return HeldExecutor()


@pytest.fixture
async def rec(data_dir: Path, settings: Settings, executor: HeldExecutor) -> AsyncIterator[RecServer]:
    """An open server over an empty data folder, whose trainings do nothing."""
    async with RecServer(data_dir, settings, executor=executor) as server:
        yield server


Serve = Callable[[RecServer], Awaitable[Api]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Shows servers over HTTP until the test ends."""
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:

        async def one(server: RecServer) -> Api:
            if not server.is_open:
                await stack.enter_async_context(server)
            url = await stack.enter_async_context(server.serve())
            session = await stack.enter_async_context(ClientSession())
            return Api(url, session, server)

        yield one


@pytest.fixture
async def api(serve: Serve, rec: RecServer) -> Api:
    """A client of an empty server whose trainings do nothing."""
    return await serve(rec)


@pytest.fixture(scope="session")
def trained_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the trained model m, the chef c and the task t. Not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("trained") / "data"

    async def train() -> None:
        async with RecServer(folder, Settings(port=0, training_processes=1)) as server:
            (folder / "rows.csv").write_text(ROWS)
            await server.create_model("m", algorithm="nmf", hyperparameters={"n_components": 4})
            await server.create_data_chef_from_csv("c", file_path="rows.csv")
            with server.events.listen() as events:
                await server.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
                ended = await events.next(RunEnded)
            assert ended.outcome == "completed", ended.error

    with ThreadPoolExecutor(1) as thread:  # a loop of its own, away from the one of the tests
        thread.submit(asyncio.run, train()).result()
    return folder


@pytest.fixture
async def trained(serve: Serve, trained_dir: Path, data_dir: Path, settings: Settings, executor: HeldExecutor) -> Api:
    """A client of a server with the trained model m, the chef c and the task t, due in an hour."""
    await asyncio.to_thread(shutil.copytree, trained_dir, data_dir)
    return await serve(RecServer(data_dir, settings, executor=executor))


@pytest.fixture
def snapshot(data_dir: Path) -> Callable[[], dict[str, bytes]]:
    """Takes down every file of the data folder with its bytes."""

    def take() -> dict[str, bytes]:
        return {
            str(path.relative_to(data_dir)): path.read_bytes() if path.is_file() else b""
            for path in sorted(data_dir.rglob("*"))
        }

    return take
