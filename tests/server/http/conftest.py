"""Servers over real HTTP: an empty one, and one with a trained model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import copytree

import pytest
from aiohttp import ClientSession

from recserver import RecServer, Settings
from recserver._internal.core.events import RunEnded
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api, Serve
from tests.helpers.film_models import film_interactions, put_films


@pytest.fixture
def trainings() -> ScriptedExecutor:
    """Where the server's trainings run: each ends when the test says."""
    return ScriptedExecutor()


@pytest.fixture
async def rec(data_dir: Path, settings: Settings, trainings: ScriptedExecutor) -> AsyncIterator[RecServer]:
    """An open server over an empty data folder, whose trainings a test ends by hand."""
    async with RecServer(data_dir, settings, executor=trainings) as server:
        yield server


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Shows servers over HTTP until the test ends."""
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
    """A client of an empty server whose trainings a test ends by hand."""
    return await serve(rec)


@pytest.fixture
async def trained(api: Api, trainings: ScriptedExecutor) -> Api:
    """A client of a server with the model m, the chef c and the task t, trained once and due again in an hour.

    User ``u0`` interacted with item ``i0``, ``u1`` with ``i0`` and ``i1``, ``u2`` with ``i0`` to ``i2``.
    """
    (api.rec.data_dir / "rows.csv").write_text("user_id,item_id\nu0,i0\n")
    await api.ok("POST", "/create_model", {"model_id": "m", "algorithm": "nmf"})
    await api.ok("POST", "/create_data_chef_from_csv", {"data_chef_id": "c", "file_path": "rows.csv"})
    task = {"task_name": "t", "model_id": "m", "data_chef_id": "c", "interval": 3600}
    with api.rec.events.listen() as events:
        await api.ok("POST", "/add_model_task", task)
        (await trainings.next()).finish()
        ended = await events.next(RunEnded)
    assert ended.outcome == "completed", ended.error
    await api.ok("GET", "/list_runs")  # answered once the history holds the run: nothing is written any more
    return api


@pytest.fixture
def snapshot(data_dir: Path) -> Callable[[], dict[str, bytes]]:
    """Takes down every file of the data folder with its bytes."""
    read: dict[str, tuple[object, bytes]] = {}

    def take() -> dict[str, bytes]:
        return dict(sorted(files(data_dir)))

    def files(folder: Path | str) -> Iterator[tuple[str, bytes]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield entry.path, b""
                    yield from files(entry.path)
                else:
                    yield entry.path, content(entry)

    def content(entry: os.DirEntry[str]) -> bytes:
        """The bytes of a file, which is read again only if it was changed: thousands of snapshots are taken."""
        found = entry.stat()
        state = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        if entry.path not in read or read[entry.path][0] != state:
            read[entry.path] = state, Path(entry.path).read_bytes()
        return read[entry.path][1]

    return take


@pytest.fixture(scope="session")
def film_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of trained models: ``films`` knows everything that one may know.

    ``plain`` has no attributes and no times, and ``popular`` cannot fold in.
    """
    models = tmp_path_factory.mktemp("films")
    put_films(models)
    put_films(models, "plain", interactions=film_interactions(times=False), attributes=False)
    put_films(models, "popular", algorithm="popular")
    return models


@pytest.fixture
async def films(data_dir: Path, serve: Serve, rec: RecServer, film_files: Path) -> Api:
    """A client of a server with the models of :func:`film_files`."""
    await asyncio.to_thread(copytree, film_files, data_dir / "models", dirs_exist_ok=True)
    return await serve(rec)


ORDERS = """user_id,item_id,rating
ann,latte,5
ann,mocha,3
bob,latte,4
bob,espresso,5
cyd,mocha,2
cyd,espresso,4
dan,latte,1
dan,tea,5
"""


@pytest.fixture
async def cafe(serve: Serve, data_dir: Path) -> AsyncIterator[Api]:
    """A client of a server that trains in real worker processes, with the file that the examples read."""
    data_dir.mkdir(exist_ok=True)
    (data_dir / "orders.csv").write_text(ORDERS)
    async with RecServer(data_dir, Settings(port=0, training_processes=1)) as rec:
        yield await serve(rec)
