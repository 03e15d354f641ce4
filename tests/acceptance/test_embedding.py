"""recserver embedded in other programs."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from recserver import RecServer, Settings, TasksReconciled
from recserver._internal.core.errors import Draining, ServerCannotStart

pytestmark = pytest.mark.process

SCRIPT = """
import asyncio, sys
from recserver import RecServer
from recserver._internal.core.events import RunEnded

async def main():
    async with RecServer(sys.argv[1]) as rec:
        await rec.create_model("m", algorithm="nmf", hyperparameters={"n_components": 2})
        await rec.create_data_chef_from_csv("c", file_path="rows.csv")
        with rec.events.listen() as events:
            await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
            ended = await events.next(RunEnded)
        answer = await rec.recommend("u1", model_id="m", n=1)
        print(ended.outcome, answer["source"], "sklearn" in sys.modules, "pandas" in sys.modules)

asyncio.run(main())
"""


async def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.csv").write_text("user_id,item_id\nu1,a\nu1,b\nu2,b\nu2,c\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(tmp_path / "script.py"), str(data),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert out.decode().split() == ["completed", "personal", "False", "False"], err.decode()


async def test_inside_another_application(data_dir: Path, settings: Settings) -> None:
    rec = RecServer(data_dir, settings)
    host = web.Application()
    host.cleanup_ctx.append(rec.cleanup_ctx)
    host.add_subapp("/rec", rec.web_app())
    async with TestServer(host) as server, ClientSession() as http:
        assert rec.is_open
        headers = {"Host": "shop.example", "Origin": "https://elsewhere.example"}  # the host's business
        async with http.get(server.make_url("/rec/api/v1/list_models"), headers=headers) as response:
            assert (response.status, await response.json()) == (200, {})
        async with http.get(server.make_url("/rec/nothing")) as response:
            assert (response.status, (await response.json())["code"]) == (404, "route_not_found")
        async with http.get(server.make_url("/nothing")) as response:
            assert response.content_type == "text/plain"  # the host's own answer
    assert not rec.is_open


async def test_a_sub_application_opens_the_server_unless_open(data_dir: Path, settings: Settings) -> None:
    rec = RecServer(data_dir, settings)
    host = web.Application()
    host.add_subapp("/rec", rec.web_app())
    async with (
        TestServer(host) as server,
        ClientSession() as http,
        http.get(server.make_url("/rec/health")) as response,
    ):
        assert await response.json() == {"status": "ok"}
    assert not rec.is_open


async def test_a_host_that_fails_to_start_leaves_nothing_behind(data_dir: Path, settings: Settings) -> None:
    async def fails(_: web.Application) -> None:
        raise RuntimeError("the host's own trouble")

    rec = RecServer(data_dir, settings)
    host = web.Application()
    host.cleanup_ctx.append(rec.cleanup_ctx)
    host.add_subapp("/rec", rec.web_app())
    host.on_startup.append(fails)
    runner = web.AppRunner(host)
    with pytest.raises(RuntimeError, match="own trouble"):
        await runner.setup()
    await runner.cleanup()
    assert not rec.is_open
    assert [task.get_name() for task in asyncio.all_tasks() if "recserver" in task.get_name()] == []


async def test_serving_in_an_existing_event_loop(rec: RecServer) -> None:
    async with rec.serve() as url, ClientSession(url) as http, http.get("/get_scheduler_status") as response:
        assert (await response.json())["data"] == {"is_running": True, "status": "running"}
    assert rec.is_open  # it was open before, so serving did not close it


async def test_the_host_is_not_changed(data_dir: Path, settings: Settings) -> None:
    def surroundings() -> tuple[object, ...]:
        root = logging.getLogger()
        handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
        return list(root.handlers), root.level, handlers, asyncio.get_event_loop_policy()

    before = surroundings()
    async with RecServer(data_dir, settings) as rec, rec.serve():
        assert surroundings() == before
    assert surroundings() == before


async def test_a_server_is_opened_once_and_can_be_opened_again(data_dir: Path, settings: Settings) -> None:
    rec = RecServer(data_dir, settings)
    with pytest.raises(Draining, match="not open"):
        await rec.list_models()
    for _ in range(2):
        async with rec:
            assert await rec.list_models() == {}
            with pytest.raises(ServerCannotStart, match="already open: open it once"):
                await rec.__aenter__()
            assert await rec.list_models() == {}
    assert not rec.is_open


async def test_a_host_that_logs_at_info_sees_nothing_of_ours(
    data_dir: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither what the server does, nor the changes of files that watchfiles reports to it."""
    caplog.set_level(logging.INFO)
    async with RecServer(data_dir, settings) as rec:
        with rec.events.listen() as events:
            task = '{"model_id": "m", "interactions_data_chef_id": "c", "interval": 60}'
            for name in ("first", "second"):  # the first may be found at startup, the second is reported
                await asyncio.to_thread((data_dir / "tasks" / f"{name}.json").write_text, task)
                await events.next(TasksReconciled, lambda event, name=name: name in event.task_names)
    quiet = [record for record in caplog.records if record.levelno <= logging.INFO]
    assert [record for record in quiet if record.name != "asyncio"] == []


async def test_open_and_close_do_what_async_with_does(data_dir: Path, settings: Settings) -> None:
    rec = RecServer(data_dir, settings)
    for _ in range(2):
        await rec.open()
        assert rec.is_open and (await rec.health()).status == "ok"
        await rec.close()
        await rec.close()
        assert not rec.is_open
