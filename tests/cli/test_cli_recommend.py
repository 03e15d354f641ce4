"""``recserver recommend``: one user on the terminal, all users into files and tables."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver._internal.recommend.filters import Condition
from recserver._internal.recommend.query import Query
from recserver._internal.training.export.export_job import EXTENSIONS
from tests.helpers.cli_call import Command
from tests.helpers.cli_process import Start
from tests.helpers.exported import in_file, put_crowd, wanted
from tests.helpers.film_models import put_films
from tests.helpers.model_files import put_model

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(data_dir: Path) -> Path:
    """A data folder with one trained model."""
    put_films(data_dir / "models")
    return data_dir


@pytest.fixture
def recommend(folder: Path, command: Command) -> Command:
    """Runs ``recserver recommend ARGUMENTS`` beside the data folder."""
    return partial(command, "recommend", SHOP="shop.db")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["-n", "2", "--include-seen"], {"n": 2, "exclude_seen": False}),
        (["--filter", "genre=Comedy", "--filter", "price<10"], {"filter": ["genre=Comedy", "price<10"]}),
        (["--exclude", "jaws", "--exclude", "heat"], {"exclude": ["jaws", "heat"]}),
        (["--candidate", "heat", "--candidate", "big"], {"candidates": ["heat", "big"]}),
        (["--boost", "genre=Drama*3", "--explain"], {"boost": "genre=Drama*3", "explain": True}),
        (["--max-per", "genre:1", "--diversity", "0.5"], {"max_per": "genre:1", "diversity": 0.5}),
    ],
)
async def test_one_user_gets_what_a_server_answers(
    recommend: Command, folder: Path, settings: Settings, arguments: list[str], options: dict[str, Any]
) -> None:
    async with RecServer(folder, settings) as rec:  # both at the same time
        for user in ("ann", "Zoë", "nobody"):
            status, out, err = await asyncio.to_thread(recommend, user, "--json", *arguments)
            assert (status, err) == (0, "")
            shown = json.loads(out)
            answer = (await rec.recommend(user, model_id="films", **options)).to_dict()
            assert shown.pop("items") == answer["predictions"][user]
            assert shown == {name: answer[name] for name in shown} and len(shown) == 5


def test_a_table_for_people(recommend: Command) -> None:
    status, out, _ = recommend("ann", "-n", "3", "--explain")
    lines = out.splitlines()
    assert status == 0 and lines[0] == "films, version 1, for ann: personal"
    assert [line.split("│")[1].strip() for line in lines if line.startswith("│")] == ["1", "2", "3"]
    status, out, _ = recommend("nobody", "--fallback", "none")
    assert (status, out) == (0, "films, version 1, for nobody: nothing, the user is unknown\n")
    for fallback, source in (("recent", "recent"), ("overall", "popular")):
        assert json.loads(recommend("nobody", "--fallback", fallback, "--json")[1])["source"] == source


@pytest.mark.parametrize("ending", EXTENSIONS)
def test_all_into_a_file(recommend: Command, folder: Path, ending: str) -> None:
    path = folder.parent / f"top{ending}"
    path.write_text("before")
    status, out, err = recommend("--all", "--out", path.name, "--filter", "price<12", "-n", "3")
    query = Query(n=3, filters=[Condition("price", "<", ("12",))])
    assert in_file(path, "films") == (rows := wanted(folder / "models/films.pkl", query))
    assert (status, err) == (0, "")
    assert out.startswith(f"Wrote {len(rows)} rows for 10 users to top{ending}: model films, version 1, ")
    assert {one.name for one in folder.parent.iterdir()} == {"data", path.name}


@pytest.mark.parametrize(
    ("url", "table"),
    [
        ("sqlite:///shop.db", None), ("sqlite:///${SHOP}", "top"), ("sqlite:///{}/shop.db", "top"),
        ("sqlite:///history.db", "top"),
    ],
)  # fmt: skip
def test_all_into_a_table(recommend: Command, folder: Path, url: str, table: str | None) -> None:
    file = "history.db" if "history" in url else "shop.db"
    url = url.replace("{}", str(folder.parent))
    arguments = ["--all", "--out", url, "--json", *(["--table", table] if table else [])]
    for _ in range(2):
        status, out, err = recommend(*arguments)
        assert (status, err) == (0, "")
    with closing(sqlite3.connect(folder.parent / file)) as connection:
        found = connection.execute(f"SELECT user_id, rank, item_id, score FROM {table or 'recommendations'}")
        rows = found.fetchall()
    assert rows == wanted(folder / "models/films.pkl")
    shown = json.loads(out)
    assert shown.pop("seconds") >= 0
    assert shown == {"model_id": "films", "model_version": 1, "users": 10, "rows": len(rows)}


def test_the_model_is_named_where_there_are_several(recommend: Command, folder: Path) -> None:
    put_model(folder / "models", "m")
    (folder / "models" / "new_config.json").write_text('{"algorithm": "nmf"}')
    status, _, err = recommend("ann")
    assert status == 1
    assert err == "recserver: No model given: use --model; there are: 'films', 'm', 'new'.\n"
    assert recommend("u1", "--model", "m")[0] == 0
    for arguments, sentence in (
        (["u1", "--model", "x"], "There is no model 'x' in data"),
        (["u1", "--model", "../m"], "There is no model '../m' in data"),
        (["u1", "--model", "new"], "Model 'new' was never trained"),
        (["u1", "--data", "elsewhere"], "There is no folder elsewhere"),
    ):
        status, out, err = recommend(*arguments)
        assert (status, out) == (1, "") and sentence in err


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 2, "No user given: name one, or use --all"),
        (["ann", "--out", "a.csv"], 2, "add --all"),
        (["ann", "--all", "--out", "a.csv"], 2, "leave them out with --all"),
        (["--all", "--out", "a.csv", "--explain"], 2, "leave them out with --all"),
        (["--all"], 2, "--all needs --out"),
        (["--all", "--out", "a.txt"], 2, "nor a file ending in .parquet, .csv, .csv.gz, .jsonl"),
        (["--all", "--out", "a.csv", "--table", "t"], 2, "--table is for a database"),
        (["--all", "--out", "sqlite:///a.db", "--table", "a b"], 2, "--table 'a b': must be the name of a table"),
        (["--all", "--out", "no/a.csv"], 1, "There is no folder no"),
        (["--all", "--out", "sqlite:///no/a.db"], 1, "its folder is missing"),
        (["--all", "--out", "sqlite:///data/history.db"], 1, "is one of recserver's own files"),
        (["--all", "--out", "postgresql://u:s3cr3t@127.0.0.1:1/x"], 1, "The database cannot be reached"),
        (["ann", "--fallback", "some"], 2, "use overall, recent or none"),
        (["ann", "-n", "0"], 2, "-n: must be a whole number from 1 to 1000"),
        (["ann", "--filter", "genre"], 2, "--filter: 'genre' is not a valid condition"),
        (["ann", "--filter", "year=1"], 1, "knows no attribute"),
        (["ann", "--max-per", "genre"], 2, "--max-per: 'genre' is not a valid quota"),
        (["", "-n", "1"], 2, "must be 1 to 256 characters long"),
    ],
)
def test_errors_are_one_sentence(
    recommend: Command, folder: Path, arguments: list[str], status: int, sentence: str
) -> None:
    code, out, err = recommend(*arguments)
    assert (code, out) == (status, "") and sentence in err
    assert err.startswith("recserver: ") and err.count("\n") == 1 and "s3cr3t" not in err
    assert {one.name for one in folder.parent.iterdir()} == {"data"} and not list(folder.glob("*.db"))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a model whose export takes some seconds."""
    folder = tmp_path_factory.mktemp("crowd")
    put_crowd(folder / "models", 400_000)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.process
async def test_a_signal_leaves_no_files(start: Start, crowd: Path, tmp_path: Path, number: signal.Signals) -> None:
    shutil.copytree(crowd, tmp_path / "data")
    process = await start("recommend", "--all", "--out", "top.jsonl")
    files = {one.name for one in tmp_path.iterdir()}
    while files == {"data"}:  # until it writes
        files = {one.name for one in await asyncio.to_thread(lambda: list(tmp_path.iterdir()))}
    process.send_signal(number)
    _, err = await process.communicate()
    assert process.returncode == 128 + number and b"Traceback" not in err
    assert {one.name for one in tmp_path.iterdir()} == {"data"}
