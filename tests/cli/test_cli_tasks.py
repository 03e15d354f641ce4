"""``recserver tasks`` against a real server, whose trainings the test ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from recserver._internal.cli import app
from recserver._internal.core.errors import SourceUnchanged
from recserver._internal.core.events import RunEnded
from recserver._internal.results.base import plain
from recserver._internal.results.runs import RunOutcome
from recserver._internal.server.rec_server import RecServer
from recserver._internal.server.settings import Settings
from recserver._internal.training.jobs import Progress
from recserver.testing._scripted_executor import ScriptedExecutor, ScriptedTraining, few_interactions
from tests.helpers.cli_process import killed_at_exit
from tests.helpers.pids import take_interrupts

pytestmark = pytest.mark.slow

JOINED = "Task t is already training model m; joined that run.\n"
RESUMED = "Task t is not paused and runs every 3600 s.\n"
KEY = "a-key-of-enough-characters"
HOSTILE = "The source says \x1b[31m\x9b2J\u202e[bold]no\r\nrecserver: all is well."

Cli = Callable[..., Awaitable[Result]]
Start = Callable[..., Awaitable[Process]]


@pytest.fixture
def trainings() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
async def rec(data_dir: Path, settings: Settings, trainings: ScriptedExecutor) -> AsyncIterator[RecServer]:
    """An open server with the model m, the chef c and the task t, trained once and due again in an hour."""
    async with RecServer(data_dir, settings, executor=trainings) as server:
        (data_dir / "rows.csv").write_text("user_id,item_id\nu0,i0\n")
        await server.create_model("m", algorithm="nmf")
        await server.create_data_chef_from_csv("c", file_path="rows.csv")
        with server.events.listen() as events:
            await server.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
            (await trainings.next()).finish()
            await events.next(RunEnded)
        yield server


@pytest.fixture
async def url(rec: RecServer) -> AsyncIterator[str]:
    """The address of ``rec``."""
    async with rec.serve() as address:
        yield address


@pytest.fixture
def cli() -> Cli:
    """Calls ``recserver tasks ARGUMENTS`` in a thread."""

    async def call(*arguments: str, **environment: str) -> Result:
        surroundings = {"RECSERVER_URL": None, "RECSERVER_PORT": None, "RECSERVER_API_KEY": None, **environment}
        return await asyncio.to_thread(CliRunner().invoke, app, ["tasks", *arguments], env=surroundings)

    return call


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts ``recserver tasks ARGUMENTS`` as a process; what still runs at the end of the test is killed."""
    async with killed_at_exit() as started:

        async def run(*arguments: str, stdout: int = PIPE, **environment: str) -> Process:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "recserver", "tasks", *arguments, stdin=PIPE, stdout=stdout, stderr=PIPE,
                env={**os.environ, **environment}, preexec_fn=take_interrupts,
            )  # fmt: skip
            started.append(process)
            return process

        yield run


async def line_with(process: Process, text: str) -> str:
    """The next line on standard output that holds ``text``."""
    assert process.stdout is not None
    before = []
    while line := (await process.stdout.readline()).decode():
        if text in line:
            return line
        before.append(line)
    raise AssertionError(f"{text!r} never came: {before} {(await process.communicate())[1]!r}")


def in_one_line(result: Result, status: int = 1) -> str:
    """The sentence of a command that failed."""
    assert (result.exit_code, result.stdout) == (status, ""), result.output
    assert result.stderr.startswith("recserver: ") and len(result.stderr.splitlines()) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


async def failing(rec: RecServer, trainings: ScriptedExecutor, error: str) -> None:
    """Let the task fail once."""
    with rec.events.listen() as events:
        await rec.run_task("t")
        (await trainings.next()).fail(error)
        await events.next(RunEnded)


async def test_list(cli: Cli, url: str, rec: RecServer, trainings: ScriptedExecutor) -> None:
    await rec.add_model_task(
        "nightly", model_id="m", data_chef_id="c", schedule="30 2 * * *", timezone="Europe/Berlin", enabled=False
    )
    result = await cli("list", "--url", url)
    assert (result.exit_code, result.stderr) == (0, "")
    heads, nightly, t = result.stdout.splitlines()
    assert heads.split()[:4] == ["task", "model", "schedule", "state"]
    assert nightly.split("  ")[0] == "nightly" and "30 2 * * * (Europe/Berlin)" in nightly and "paused" in nightly
    assert "every 3600 s" in t and "waiting" in t and "completed, 20" in t
    await failing(rec, trainings, "The source is away.")
    t = (await cli("list", "--url", url)).stdout.splitlines()[-1]
    assert "failing since 20" in t and t.endswith("The source is away.")


async def test_list_shows_how_far_a_run_is(
    cli: Cli, url: str, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    await rec.run_task("t")
    training = await trainings.next()
    training.progress("reading", 12_000)
    shown = (await cli("list", "--url", url)).stdout
    assert "running, reading: 12,000 rows" in shown and "started, 20" in shown
    training.on_progress(Progress(stage="waiting", queue_position=2))
    assert "running, waiting: position 2 in the queue" in (await cli("list", "--url", url)).stdout


async def test_list_without_tasks_and_with_the_scheduler_stopped(cli: Cli, url: str, rec: RecServer) -> None:
    await rec.stop_scheduler()
    shown = (await cli("list", "--url", url)).stdout
    assert "not scheduled" in shown and "The scheduler is stopped" in shown
    await rec.remove_model_task("t")
    assert "There are no tasks" in (await cli("list", "--url", url)).stdout


async def test_list_shows_a_broken_task_file(cli: Cli, url: str, rec: RecServer) -> None:
    broken = {"model_id": ["m"], "interval": "\x1b[2J", "enabled": 7}
    (rec.data_dir / "tasks/broken.json").write_text(json.dumps(broken))
    await rec.restart_scheduler()
    result = await cli("list", "--url", url)
    assert result.exit_code == 0 and "\x1b" not in result.stdout
    assert 'broken  ["m"]' in result.stdout and "tasks/broken.json cannot be scheduled" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (["list"], lambda rec: rec.list_tasks()),
        (["history"], lambda rec: rec.list_runs(limit=20)),
        (["history", "t", "--limit", "1"], lambda rec: rec.list_runs(task_name="t", limit=1)),
        (["pause", "t"], lambda rec: rec.pause_task("t")),
        (["resume", "t"], lambda rec: rec.resume_task("t")),
        (["stop", "t"], lambda rec: rec.stop_training(task_name="t")),
    ],
)
async def test_json_is_the_body_of_the_answer(
    cli: Cli, url: str, rec: RecServer, arguments: list[str], verb: Callable[[RecServer], Awaitable[Any]]
) -> None:
    result = await cli(*arguments, "--json", "--url", url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == plain(await verb(rec))


async def test_pause_and_resume(cli: Cli, rec: RecServer, url: str) -> None:
    assert (await cli("pause", "t", RECSERVER_URL=url)).stdout == "Task t is paused.\n"
    assert (await rec.list_tasks())["t"]["enabled"] is False
    assert (await cli("resume", "t", RECSERVER_PORT=url.rsplit(":", 1)[1])).stdout == RESUMED
    assert (await rec.list_tasks())["t"]["enabled"] is True


async def test_stop(cli: Cli, rec: RecServer, url: str, trainings: ScriptedExecutor) -> None:
    assert (await cli("stop", "t", "--url", url)).stdout == "Nothing was being trained.\n"
    await rec.run_task("t")
    training = await trainings.next()
    assert (await cli("stop", "t", "--url", f"{url}/api/v1/")).stdout == "The training of m was stopped.\n"
    assert training.cancelled


async def test_run_without_waiting(cli: Cli, url: str, trainings: ScriptedExecutor) -> None:
    result = await cli("run", "t", "--no-wait", "--url", url)
    training = await trainings.next()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"Task t trains model m.\nRun id: {training.job.run_id}\n"
    again = await cli("run", "t", "--no-wait", "--url", url)
    assert (again.exit_code, again.stderr) == (0, "")
    assert again.stdout == f"{JOINED}Run id: {training.job.run_id}\n"
    as_json = json.loads((await cli("run", "t", "--no-wait", "--json", "--url", url)).stdout)
    assert (as_json["run_id"], as_json["model_id"], as_json["joined"]) == (training.job.run_id, "m", True)


async def test_run_is_refused_while_another_task_trains_the_model(
    cli: Cli, url: str, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    await rec.add_model_task("other", model_id="m", data_chef_id="c", interval=3600, enabled=False)
    await rec.run_task("t")
    await trainings.next()
    for options in ([], ["--no-wait"]):
        busy = in_one_line(await cli("run", "other", *options, "--url", url))
        assert "Model 'm' is being trained by task 't'. Wait for that to end." in busy
    assert trainings.started_count == 2


@pytest.mark.process
async def test_run_joins_the_run_under_way(
    start: Start, url: str, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    run_id = (await rec.run_task("t"))["run_id"]
    training = await trainings.next()
    process = await start("run", "t", "--url", url)
    assert await line_with(process, "joined") == JOINED
    training.finish()
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.decode().splitlines()[-1].startswith("completed, version 2, ")
    assert (trainings.started_count, (await rec.get_run(run_id))["outcome"]) == (2, "completed")


async def test_run_begins_another_where_the_one_in_the_way_has_just_ended(cli: Cli) -> None:
    """The server of another version of this: refuses once, and has nothing under way when it is asked."""
    posts = 0

    async def refuse(request: web.Request) -> web.Response:
        nonlocal posts
        posts += 1
        if posts == 1:
            return web.json_response({"error": "Busy.", "code": "model_busy"}, status=409)
        return web.json_response({"message": "Task t trains model m.", "run_id": "1"})

    async def tasks(request: web.Request) -> web.Response:
        return web.json_response({"t": {"model_id": "m", "running": False, "last_run_id": "0"}})

    application = web.Application()
    application.router.add_post("/run_task", refuse)
    application.router.add_get("/list_tasks", tasks)
    async with TestServer(application) as server:
        result = await cli("run", "t", "--no-wait", "--url", str(server.make_url("/")))
    assert (result.exit_code, result.stdout) == (0, "Task t trains model m.\nRun id: 1\n")


async def test_run_follows_to_a_new_version(cli: Cli, url: str, trainings: ScriptedExecutor) -> None:
    following = asyncio.create_task(cli("run", "t", "--url", url))
    training = await trainings.next()
    training.progress("reading", 1000)
    training.finish()
    result = await following
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "waiting" and lines[-1].startswith("completed, version 2, ")
    assert any(line.startswith("reading: 1,000 rows") for line in lines)


@pytest.mark.parametrize(
    ("error", "status", "last"),
    [
        ("The source is away.", 1, ": The source is away."),
        (SourceUnchanged("Nothing is new."), 0, ", no new data"),
    ],
    ids=["failed", "unchanged"],
)
async def test_run_follows_to_other_outcomes(
    cli: Cli, url: str, trainings: ScriptedExecutor, error: str | Exception, status: int, last: str
) -> None:
    following = asyncio.create_task(cli("run", "t", "--url", url))
    (await trainings.next()).fail(error)
    result = await following
    assert (result.exit_code, result.stderr) == (status, "")
    assert result.stdout.splitlines()[-1].endswith(last)


async def test_run_follows_to_a_stop(cli: Cli, url: str, rec: RecServer, trainings: ScriptedExecutor) -> None:
    following = asyncio.create_task(cli("run", "t", "--url", url))
    await trainings.next()
    await rec.stop_training(task_name="t")
    result = await following
    assert result.exit_code == 3
    assert result.stdout.splitlines()[-1].startswith("stopped, ")


async def test_run_as_json_prints_the_run_and_nothing_else(
    cli: Cli, url: str, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    following = asyncio.create_task(cli("run", "t", "--json", "--url", url))
    training = await trainings.next()
    training.fail()
    result = await following
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == (await rec.get_run(training.job.run_id)).to_dict()


async def test_hostile_text_cannot_drive_the_terminal(
    cli: Cli, url: str, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    following = asyncio.create_task(cli("run", "t", "--url", url))
    training = await trainings.next()
    training.fail(HOSTILE)
    run = await following
    shown = [
        run,
        await cli("list", "--url", url),
        await cli("history", "--url", url),
        await cli("history", "--run", training.job.run_id, "--url", url),
        await cli("list", "--json", "--url", url),
    ]
    for result in shown:
        assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(result.stdout), result.stdout
        assert "[bold]no" in result.stdout
    assert "\\x1b[31m\\x9b2J\\u202e[bold]no\\r\\nrecserver: all is well." in run.stdout.splitlines()[-1]
    assert json.loads(shown[-1].stdout)["t"]["last_error"] == HOSTILE


async def test_history(cli: Cli, url: str, rec: RecServer, trainings: ScriptedExecutor) -> None:
    await failing(rec, trainings, "The source is away.")
    result = await cli("history", "t", "--url", url)
    heads, newest, oldest = result.stdout.splitlines()
    assert heads.split() == [
        "started", "task", "model", "trigger", "outcome", "seconds", "version", "run", "error"
    ]  # fmt: skip
    assert "run_task" in newest and "failed" in newest and newest.endswith("The source is away.")
    assert "schedule" in oldest and "completed" in oldest
    for asked in (["--outcome", "failed"], ["--limit", "1"], ["--model", "m", "--outcome", "failed"]):
        (line,) = (await cli("history", *asked, "--url", url)).stdout.splitlines()[1:]
        assert line.split() == newest.split()
    assert (await cli("history", "nobody", "--url", url)).stdout == "No runs found.\n"


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        (
            "--outcome",
            "lost",
            "'lost' is not an outcome: use one of running, completed, unchanged, failed, stopped",
        ),
        ("--outcome", "", "'' is not an outcome: use one of running, completed, unchanged, failed, stopped"),
        ("--limit", "0", "must be a whole number from 1 to 1000"),
        ("--limit", "-1", "must be a whole number from 1 to 1000"),
        ("--limit", "1001", "must be a whole number from 1 to 1000"),
    ],
)
async def test_wrong_options_are_told_from_failures(
    cli: Cli, url: str, option: str, value: str, sentence: str
) -> None:
    result = await cli("history", option, value, "--url", url, COLUMNS="200", TERM="dumb")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for '{option}': {sentence}" in " ".join(result.stderr.replace("│", "").split())


async def test_every_outcome_may_be_asked_for(cli: Cli, url: str) -> None:
    for outcome in RunOutcome:
        assert (await cli("history", "--outcome", outcome, "--url", url)).exit_code == 0
    told = " ".join((await cli("history", "--help", COLUMNS="200", TERM="dumb")).stdout.replace("│", "").split())
    assert ", ".join(RunOutcome) in told


async def test_history_of_one_run(cli: Cli, url: str, rec: RecServer) -> None:
    run = (await rec.list_runs())["data"][0]
    result = await cli("history", "--run", run["run_id"], "--url", url)
    lines = result.stdout.splitlines()
    assert f"run_id: {run['run_id']}" in lines and "model_version: 1" in lines
    for section, within in (
        ("stages", "  fitting: "),
        ("metrics", "  training_time: "),
        ("hyperparameters", "  n_components: "),
    ):
        following = lines[lines.index(section) + 1 :]
        assert any(line.startswith(within) for line in following)
    result = await cli("history", "--run", run["run_id"], "--json", "--url", url)
    assert json.loads(result.stdout) == (await rec.get_run(run["run_id"])).to_dict()
    assert "There is no run 'x'" in in_one_line(await cli("history", "--run", "x", "--url", url))
    assert (await cli("history", "t", "--run", "x", "--url", url)).exit_code == 2


COMMANDS = [["list"], ["run", "t"], ["run", "t", "--no-wait"], ["pause", "t"], ["resume", "t"], ["stop", "t"],
            ["history"], ["history", "--run", "x"]]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_no_server(cli: Cli, arguments: list[str]) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        told = in_one_line(await cli(*arguments, "--json", "--url", address.replace("//", "//user:canary@")))
    assert f"No server answers at {address} (Connection refused)" in told and "canary" not in told
    assert "recserver serve" in told and "--url" in told


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_a_key_is_asked_for(cli: Cli, data_dir: Path, arguments: list[str]) -> None:
    server = RecServer(data_dir, Settings(port=0, api_key=KEY), executor=ScriptedExecutor())
    async with server.serve() as url:
        assert "set RECSERVER_API_KEY" in in_one_line(await cli(*arguments, "--url", url))
        wrong = in_one_line(await cli(*arguments, "--url", url, RECSERVER_API_KEY="canary"))
        assert "set RECSERVER_API_KEY" in wrong and "canary" not in wrong
        assert "holds characters" in in_one_line(await cli(*arguments, "--url", url, RECSERVER_API_KEY="a\nb"), 2)
        result = await cli("list", "--json", "--url", url, RECSERVER_API_KEY=f" {KEY} ")
        assert (result.exit_code, result.stdout) == (0, "{}\n")


@pytest.mark.parametrize("command", ["run", "pause", "resume", "stop"])
async def test_an_unknown_task(cli: Cli, url: str, command: str) -> None:
    assert "There is no task 'nobody'" in in_one_line(await cli(command, "nobody", "--url", url))


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["--url", "localhost:9999"], {}),
        (["--url", "http://"], {}),
        (["--url", "http://h:99999"], {}),
        ([], {"RECSERVER_URL": "ftp://h"}),
        ([], {"RECSERVER_PORT": "0"}),
        ([], {"RECSERVER_PORT": "x"}),
    ],
)
async def test_addresses_that_are_none(cli: Cli, options: list[str], environment: dict[str, str]) -> None:
    told = in_one_line(await cli("list", *options, **environment), 2)
    assert "http://127.0.0.1:9999" in told or "--url" in told


@pytest.fixture
async def other() -> AsyncIterator[Callable[[web.Response], Awaitable[str]]]:
    """Addresses of servers that answer everything in one way."""
    async with AsyncExitStack() as stack:

        async def one(response: web.Response) -> str:
            async def answer(_: web.Request) -> web.Response:
                return web.Response(status=response.status, headers=response.headers, body=response.body)

            application = web.Application()
            application.router.add_route("*", "/{any:.*}", answer)
            server = await stack.enter_async_context(TestServer(application))
            return str(server.make_url("/"))

        yield one


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("status", "body"),
    [(200, "<html>"), (200, "[]"), (404, "{}"), (302, ""), (502, "\x1b[2J"), (200, '{"data": 1, "t": 2}')],
)
async def test_a_server_of_another_kind(
    cli: Cli,
    other: Callable[[web.Response], Awaitable[str]],
    arguments: list[str],
    status: int,
    body: str,
) -> None:
    moved = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
    result = await cli(*arguments, "--url", await other(web.Response(status=status, text=body, headers=moved)))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert len(result.stderr.splitlines()) <= 1 and "\x1b" not in result.output
    assert "is not recserver" in result.stderr or body.startswith('{"data"')


@pytest.fixture
async def front(url: str) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Servers before ``url`` that pass everything on but events: ``missing``, or ``breaking`` off at once."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(ClientSession())

        async def one(events: str) -> str:
            async def answer(request: web.Request) -> web.StreamResponse:
                if request.path == "/events" and events == "missing":
                    return web.json_response({"error": "There is no such address."}, status=404)
                if request.path == "/events":
                    return web.Response(text="event: run_progressed\r\n", content_type="text/event-stream")
                sent = await request.read()
                kind = {"Content-Type": "application/json"} if sent else {}
                async with http.request(
                    request.method, url + request.path_qs, data=sent or None, headers=kind
                ) as response:
                    return web.json_response(await response.json(), status=response.status)

            application = web.Application()
            application.router.add_route("*", "/{any:.*}", answer)
            server = await stack.enter_async_context(TestServer(application))
            return str(server.make_url("/"))

        yield one


@pytest.mark.parametrize("events", ["missing", "breaking"])
async def test_run_does_without_events(
    cli: Cli, front: Callable[[str], Awaitable[str]], trainings: ScriptedExecutor, events: str
) -> None:
    following = asyncio.create_task(cli("run", "t", "--url", await front(events)))
    (await trainings.next()).fail("The source is away.")
    result = await following
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines()[-1].startswith("failed, ")


async def followed(start: Start, url: str, trainings: ScriptedExecutor) -> tuple[Process, ScriptedTraining]:
    """A process that follows a run which fits."""
    process = await start("run", "t", "--url", url)
    training = await trainings.next()
    await line_with(process, "fitting")
    return process, training


@pytest.mark.process
async def test_ctrl_c_ends_the_following_and_not_the_training(
    start: Start, url: str, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    process, training = await followed(start, url, trainings)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert err.decode() == (
        f"recserver: stopped following run {training.job.run_id}, which continues: "
        f"recserver tasks stop t --url {url} stops it.\n"
    )
    assert not training.cancelled
    with rec.events.listen() as events:
        training.finish()
        assert (await events.next(RunEnded)).outcome == "completed"


@pytest.mark.process
async def test_a_server_that_goes_away_is_told_of(
    start: Start, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    async with rec.serve() as url:
        process, training = await followed(start, url, trainings)
    out, err = await process.communicate()
    assert process.returncode == 1, out
    assert err.decode() == (
        f"recserver: The server at {url} stopped answering during run {training.job.run_id}: once it is back, "
        f"recserver tasks history --run {training.job.run_id} shows how the run ended.\n"
    )


@pytest.mark.process
async def test_output_on_a_pipe_is_lines(start: Start, url: str, trainings: ScriptedExecutor) -> None:
    process, training = await followed(start, url, trainings)
    training.on_progress(Progress(stage="packing", rows_read=7, iteration=3, iterations=9, loss=0.25))
    assert (await line_with(process, "packing")).startswith("packing: 7 rows")
    training.finish()
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.decode().splitlines()[-1].startswith("completed, version 2")
    assert b"\x1b" not in out and b"\r" not in out


@pytest.mark.process
async def test_a_pipe_that_nobody_reads_is_no_fault(start: Start, url: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    process = await start("list", "--url", url, stdout=theirs)
    os.close(theirs)
    _, err = await process.communicate()
    assert b"Traceback" not in err


@pytest.mark.process
async def test_a_terminal_shows_a_bar(start: Start, url: str, trainings: ScriptedExecutor) -> None:
    ours, theirs = os.openpty()
    try:
        surroundings = {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
        process = await start("run", "t", "--url", url, stdout=theirs, **surroundings)
        os.close(theirs)
        training = await trainings.next()
        training.on_progress(Progress(stage="fitting", rows_read=12_345, iteration=3, iterations=9, loss=0.25))
        shown = await _read_until(ours, b"loss 0.25")
        training.finish()
        shown += await _read_until(ours, b"completed, version 2")
    finally:
        os.close(ours)
    assert await process.wait() == 0
    assert "━" in shown.decode() and b"12,345 rows, iteration 3 of 9, loss 0.25" in shown


@pytest.mark.process
async def test_a_narrow_terminal_shows_sentences_below_the_table(
    start: Start, url: str, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    await failing(rec, trainings, "The source is away for a reason that takes a whole sentence to tell.")
    ours, theirs = os.openpty()
    try:
        await start("list", "--url", url, stdout=theirs, TERM="xterm", COLUMNS="80")
        os.close(theirs)
        shown = await _read_until(ours, b"t: The source is away for a reason that takes a whole sentence to tell.")
    finally:
        os.close(ours)
    assert "┃" in shown.decode() and b"failing since" in shown.replace(b"\r\n", b"")


async def _read_until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal shows, up to ``wanted``."""
    shown = b""
    with contextlib.suppress(OSError):  # the other side has closed
        while wanted not in shown:
            shown += await asyncio.to_thread(os.read, terminal, 65536)
    assert wanted in shown, shown
    return shown


async def test_list_shows_warnings_of_the_last_completed_run(
    cli: Cli, url: str, rec: RecServer, trainings: ScriptedExecutor
) -> None:
    with rec.events.listen() as events:
        await rec.run_task("t")
        (await trainings.next()).finish(few_interactions(5), warnings=["The data is thin.\x1b"])
        await events.next(RunEnded)
    lines = (await cli("list", "--url", url)).stdout.splitlines()
    assert lines[-1] == "t: warning: The data is thin.\\x1b"
