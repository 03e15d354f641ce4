"""The command line in new processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import ClientSession

from tests.helpers.cli_call import Command
from tests.helpers.cli_process import Start, line_with, url_of
from tests.helpers.film_models import put_films

pytestmark = pytest.mark.process

CHEFS = 'films: {type: csv, path: films.csv, rename_columns: "userId->user_id,movieId->item_id"}'


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["chefs", "preview", "films"], 0),
        (["chefs", "preview", "none"], 1),
        (["models", "list"], 0),
        (["models", "export", "none"], 1),
        (["recommend", "ann", "--model", "films", "--explain"], 0),
        (["recommend", "ann", "--model", "films", "--fallback", "some"], 2),
        (["evaluate", "--data", "data/films.csv", "--user", "who"], 2),
        (["version"], 0),
        (["--version"], 0),
        (["serve", "--host", "0.0.0.0"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_a_command_does_the_same_in_a_new_process(
    start: Start, command: Command, tmp_path: Path, arguments: list[str], status: int
) -> None:
    """Which is why other tests may call commands within the process of pytest."""
    (tmp_path / "data/config").mkdir(parents=True)
    (tmp_path / "data/config/restaurant_data.yaml").write_text(CHEFS)
    (tmp_path / "data/films.csv").write_text("userId,movieId\nann,Düne\ncem,Alien\n")
    await asyncio.to_thread(put_films, tmp_path / "data/models")
    process = await start(*arguments, COLUMNS="160")
    out, err = (text.decode().replace("python -m recserver", "recserver") for text in await process.communicate())
    assert (process.returncode, out, err) == await asyncio.to_thread(command, *arguments)
    assert process.returncode == status and bool(out) == (status == 0) and bool(err) == (status != 0)


@pytest.mark.parametrize(
    ("words", "expected"), [("mo", ["models"]), ("models ex", ["export"]), ("serve --w", ["--workers"])]
)
async def test_the_shell_completes_commands_and_options(words: str, expected: list[str]) -> None:
    typed = f"recserver {words}"
    environment = {
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
        "_RECSERVER_COMPLETE": "complete_bash",
    }
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("recserver"),
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, _ = await process.communicate()
    assert (process.returncode, out.decode().split()) == (0, expected)


@pytest.mark.parametrize("words", [[], ["serve"], ["models", "list"]], ids=" ".join)
def test_the_short_option_shows_the_same_help(command: Command, words: list[str]) -> None:
    status, out, err = command(*words, "-h")
    assert (status, err) == (0, "") and all(word in out for word in ("Usage:", "--help", *words))
    assert (status, out, err) == command(*words, "--help")


class Demo(NamedTuple):
    """A run of ``recserver demo``."""

    folder: Path
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A run of ``recserver demo`` that has ended."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "recserver", "demo", "--data", "here"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return Demo(folder / "here", done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_demo_runs_the_whole_workflow(demo: Demo) -> None:
    assert demo.status == 0, demo.err + demo.out
    assert demo.out.count("200") >= 3
    assert "a new guest" in demo.out
    assert "popular: a cold-start user" in demo.out
    assert "recserver serve --data here" in demo.out
    config = json.loads((demo.folder / "models/restaurants_config.json").read_text())
    assert config["status"] == "completed"


async def test_demo_recommends_more_of_what_a_guest_likes(demo: Demo) -> None:
    from recserver import RecServer, Settings
    from recserver._internal.cli.commands import demo_data

    visits = demo_data.liked(demo_data.visits())
    hits = total = 0
    async with RecServer(demo.folder, Settings(training_processes=1, read_only=True)) as rec:
        for guest, seen in visits.items():
            favorites = {demo_data.cuisine_of(one.item_id) for one in seen if one.rating >= 4}
            answer = await rec.recommend(guest, model_id="restaurants", n=2)
            best = [item["item_id"] for item in answer["predictions"][guest]]
            hits += sum(demo_data.cuisine_of(place) in favorites for place in best)
            total += len(best)
    assert hits / total > 0.9  # two in six cuisines, or fewer, are the favorites of a guest


@pytest.mark.slow
async def test_serve_logs_runs_and_their_failures(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.csv").write_text("who,item_id\nu1,a\n")
    process = await start("serve", "--port", "0")
    async with ClientSession(await url_of(process)) as http:
        for path, body in (
            ("/create_model", {"model_id": "m", "algorithm": "nmf"}),
            ("/create_data_chef_from_csv", {"data_chef_id": "c", "file_path": "rows.csv"}),
            ("/add_model_task", {"task_name": "t", "model_id": "m", "data_chef_id": "c", "interval": 60}),
        ):
            async with http.post(path, json=body) as response:
                assert response.status == 200
        assert "task t trains model m from c" in await line_with(process, "run started")
        failed = await line_with(process, "run failed")
        assert "no column user_id" in failed
        assert "'who'" in failed
    process.send_signal(signal.SIGTERM)
    await line_with(process, "closed")
    assert await process.wait() == 0


async def test_ids_cannot_forge_log_lines(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data/models").mkdir(parents=True)
    (tmp_path / "data/tasks").mkdir()
    (tmp_path / "data/models/m_config.json").write_text('{"algorithm": "nmf"}')
    task = {"model_id": "m", "interactions_data_chef_id": "x\r\n2026-01-01T00:00:00Z error forged", "interval": 60}
    (tmp_path / "data/tasks/t.json").write_text(json.dumps(task))
    process = await start("serve", "--port", "0")
    line = await line_with(process, "run skipped")
    assert "forged" in line  # on the same line, its break escaped


async def test_json_log_lines(start: Start) -> None:
    process = await start("serve", "--port", "0", RECSERVER_LOG_FORMAT="json")
    entry = json.loads(await line_with(process, "listens on"))
    assert entry["level"] == "info"
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["serve", "--host", "0.0.0.0"], {}, "RECSERVER_API_KEY"),
        (["serve", "--host", "0.0.0.0"], {"RECSERVER_API_KEY": "short"}, "at least 16 characters"),
        (["serve"], {"RECSERVER_API_KEY": ""}, "at least 16 characters"),
        (["serve", "--port", "70000"], {}, "RECSERVER_PORT"),
        (["serve", "--data", "file"], {}, "choose another with --data"),
        (["demo", "--data", "file"], {}, "choose another --data"),
    ],
)
def test_what_cannot_start_says_why(
    command: Command, tmp_path: Path, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = command(*arguments, **environment)
    assert status == 2
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


async def test_a_port_in_use_is_named(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = await start("serve", "--port", port, "--data", "two")
        _, err = await process.communicate()
    assert (process.returncode, f":{port}" in err.decode(), "--port" in err.decode()) == (2, True, True)
