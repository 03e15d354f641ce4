"""Exports that get stuck, or fail in unusual ways: clients are notified, and no files are left."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession

from recserver import RecServer, Settings
from recserver._internal.core.errors import ExportFailed
from recserver._internal.training.executors.protocol import OnExportProgress
from recserver._internal.training.export.export_job import ExportJob, ExportProgress, ExportResult, FileTarget
from recserver._internal.training.exporter import HEARTBEAT_SECONDS
from recserver.testing import FakeClock, ScriptedExecutor
from tests.helpers.api_client import Api, Serve
from tests.helpers.cut_off import cut_off_in
from tests.helpers.model_files import put_model

pytestmark = pytest.mark.process

BODY = {"model_id": "m", "file": "top.csv"}
RUNNING = {"status": "running", "users_done": 0, "users": 3}


class Odd(ScriptedExecutor):
    """An executor whose exports begin, write half a file, and then end as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.ending: asyncio.Future[ExportResult] = asyncio.Future()
        self.cancelled = asyncio.Event()

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        assert isinstance(job.target, FileTarget)
        await asyncio.to_thread(job.target.out.write_text, "half")
        on_progress(ExportProgress(users=3))
        try:
            return await self.ending
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def odd() -> Odd:
    return Odd()


@pytest.fixture
async def api(data_dir: Path, settings: Settings, serve: Serve, clock: FakeClock, odd: Odd) -> Api:
    put_model(data_dir / "models", "m")
    return await serve(RecServer(data_dir, settings, clock=clock, executor=odd))


async def test_an_export_without_progress_sends_heartbeats(api: Api, clock: FakeClock) -> None:
    lines = await api.rec.export_recommendations(**BODY)
    assert dict(await anext(lines)) == RUNNING
    again = asyncio.ensure_future(anext(lines))
    await clock.advance(HEARTBEAT_SECONDS - 0.1)
    assert not again.done()
    await clock.advance(0.2)
    assert dict(await again) == RUNNING
    await lines.aclose()


async def test_a_disconnected_client_is_noticed_without_progress(api: Api, clock: FakeClock, odd: Odd) -> None:
    async with (
        ClientSession() as session,
        session.post(f"{api.url}/export_recommendations", json=BODY) as response,
    ):
        assert json.loads(await response.content.readline()) == RUNNING
        response.close()
    async with asyncio.timeout(20):
        while not odd.cancelled.is_set():
            await clock.advance(HEARTBEAT_SECONDS)
            await api.get("/health")  # the server has had a look at its connections
    while busy := api.rec._services.exporter.running:
        await asyncio.wait(busy)
    assert list((api.rec.data_dir / "exports").iterdir()) == []


async def last_line(api: Api) -> dict[str, object]:
    return (await api.lines("/export_recommendations", BODY))[-1]


async def test_a_file_that_cannot_be_moved_is_reported(api: Api, odd: Odd) -> None:
    (api.rec.data_dir / "exports" / "top.csv").mkdir(parents=True)
    odd.ending.set_result(ExportResult(model_version=1, users=3, rows=1, seconds=0))
    last = await last_line(api)
    assert (last["status"], last["code"]) == ("failed", "export_failed")
    assert str(last["error"]).startswith("The file could not be renamed to its final name (Is a directory")
    assert [one.name for one in (api.rec.data_dir / "exports").iterdir()] == ["top.csv"]


async def test_an_internal_error_is_reported_and_logged(
    api: Api, odd: Odd, caplog: pytest.LogCaptureFixture
) -> None:
    odd.ending.set_exception(LookupError("no such thing"))
    last = await last_line(api)
    assert last["error"] == "Internal error of recserver: the server's log has the details."
    assert "LookupError: no such thing" in caplog.text
    assert list((api.rec.data_dir / "exports").iterdir()) == []


class Stuck(Odd):
    """An executor whose exports do not even begin, as where a table is locked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        self.asked.set()
        return await super().export(job, lambda _: None)


async def test_a_client_that_disconnects_before_the_start_cancels_the_export(
    data_dir: Path, settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recserver._internal.server.http.ndjson.DISCONNECT_POLL_SECONDS", 0.01)
    put_model(data_dir / "models", "m")
    stuck = Stuck()
    api = await serve(RecServer(data_dir, settings, executor=stuck))
    async with ClientSession() as session:
        asking = asyncio.ensure_future(session.post(f"{api.url}/export_recommendations", json=BODY))
        await stuck.asked.wait()
        asking.cancel()
        async with asyncio.timeout(20):
            await stuck.cancelled.wait()
    while busy := api.rec._services.exporter.running:
        await asyncio.wait(busy)
    assert list((api.rec.data_dir / "exports").iterdir()) == []


async def test_a_client_that_disconnects_before_the_first_line_is_no_error(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def gone(*_: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr("aiohttp.web.StreamResponse._write_headers", gone)
    async with ClientSession() as session:
        with pytest.raises(ClientError):
            await session.post(f"{api.url}/export_recommendations", json=BODY)
    while busy := api.rec._services.exporter.running:
        await asyncio.wait(busy)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


class CutOff(ScriptedExecutor):
    """An executor whose worker is killed while it writes to the file of the default database."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    async def export(self, job: ExportJob, on_progress: OnExportProgress) -> ExportResult:
        await asyncio.to_thread(cut_off_in, self._file)
        raise ExportFailed("The worker process was killed.")


def users_in(file: Path) -> list[tuple[str]]:
    """As a data chef reads them, which may not write."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT DISTINCT user_id FROM visits").fetchall()


async def test_a_file_of_an_interrupted_worker_can_be_read(
    data_dir: Path, settings: Settings, serve: Serve
) -> None:
    put_model(data_dir / "models", "m")
    file = data_dir / "interactions.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE visits (user_id)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO visits VALUES (?)", [("ann" * 30,)] * 10_000)
        connection.execute("COMMIT")
    api = await serve(RecServer(data_dir, settings, executor=CutOff(file)))
    answer = await api.post("/export_recommendations", {"model_id": "m", "table": "top"})
    assert (answer.status, answer.code) == (422, "export_failed")
    assert users_in(file) == [("ann" * 30,)]
