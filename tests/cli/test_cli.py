"""The command line in processes of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.helpers.cli_call import Command
from tests.helpers.cli_process import Start, line_with, url_of
from tests.helpers.film_models import put_films

CHEFS = """\
films: {type: csv, path: films.csv, rename_columns: "userId->user_id,movieId->item_id"}
gone: {type: csv, path: gone.csv}
"""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["chefs", "preview", "films"], 0),
        (["chefs", "preview", "gone"], 1),
        (["models", "list"], 0),
        (["models", "export", "none"], 1),
        (["recommend", "ann", "--model", "films", "--explain"], 0),
        (["recommend", "ann", "--model", "films", "--fallback", "some"], 2),
        (["evaluate", "--data", "data/films.csv", "--user", "who"], 2),
        (["version"], 0),
        (["no-such-command"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_a_command_does_the_same_in_a_process_of_its_own(
    start: Start, command: Command, tmp_path: Path, arguments: list[str], status: int
) -> None:
    """So that the other tests may call commands within their own process."""
    (tmp_path / "data/config").mkdir(parents=True)
    (tmp_path / "data/config/restaurant_data.yaml").write_text(CHEFS)
    (tmp_path / "data/films.csv").write_text("userId,movieId\nann,Düne\ncem,Alien\n")
    await asyncio.to_thread(put_films, tmp_path / "data/models")
    process = await start(*arguments, COLUMNS="160")
    out, err = (text.decode().replace("python -m recserver", "recserver") for text in await process.communicate())
    assert (process.returncode, out, err) == await asyncio.to_thread(command, *arguments)
    assert process.returncode == status and bool(out) == (status == 0) and bool(err) == (status != 0)


async def test_demo_runs_the_whole_workflow(start: Start, tmp_path: Path) -> None:
    process = await start("demo", "--data", "here")
    out, err = await process.communicate()
    text = out.decode()
    assert process.returncode == 0, err.decode() + text
    assert text.count("200") >= 3
    assert "a new guest" in text
    assert "popular: a cold-start user" in text
    assert "recserver serve --data here" in text
    config = json.loads((tmp_path / "here/models/restaurants_config.json").read_text())
    assert config["status"] == "completed"


async def test_demo_recommends_more_of_what_a_guest_likes(start: Start, tmp_path: Path) -> None:
    from recserver import RecServer, Settings
    from recserver.cli.commands import demo_data

    process = await start("demo", "--data", "here")
    await process.communicate()
    visits = demo_data.liked(demo_data.visits())
    hits = total = 0
    async with RecServer(tmp_path / "here", Settings(training_processes=1)) as rec:
        for guest, seen in visits.items():
            favourites = {demo_data.cuisine_of(one.item_id) for one in seen if one.rating >= 4}
            answer = await rec.recommend(guest, model_id="restaurants", n=2)
            best = [item["item_id"] for item in answer["predictions"][guest]]
            hits += sum(demo_data.cuisine_of(place) in favourites for place in best)
            total += len(best)
    assert hits / total > 0.9  # two in six cuisines, or fewer, are somebody's favourites


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
async def test_what_cannot_start_says_why(
    start: Start, tmp_path: Path, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    (tmp_path / "file").write_text("")
    process = await start(*arguments, **environment)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert sentence in err.decode()
    assert len(err.decode().strip().splitlines()) == 1


async def test_a_port_in_use_is_named(start: Start) -> None:
    first = await start("serve", "--port", "0", "--data", "one")
    port = (await url_of(first)).rsplit(":", 1)[1]
    second = await start("serve", "--port", port, "--data", "two")
    _, err = await second.communicate()
    assert (second.returncode, f":{port}" in err.decode(), "--port" in err.decode()) == (2, True, True)
