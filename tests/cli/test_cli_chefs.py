"""``recserver chefs``, over real folders."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
import stamina

from recserver import RecServer, Settings
from recserver.testing import ScriptedExecutor
from tests.helpers.cli_call import Command

YAML = """\
films:
  type: csv
  path: films.csv
  rename_columns: movieId->item_id
fixed:
  type: csv
  path: films.csv
  rename_columns: movieId->item_id,userId->user_id,stars->rating
gone:
  type: csv
  path: gone.csv
hidden:
  type: api
  url: http://127.0.0.1:1/?token=canary-token
broken:
  type: csv
  path: films.csv
  half_life_days: -1
"""


@pytest.fixture
def folder(data_dir: Path) -> Path:
    """A data folder with some chefs, and a file that one of them reads."""
    (data_dir / "config").mkdir(parents=True)
    (data_dir / "config/restaurant_data.yaml").write_text(YAML)
    (data_dir / "films.csv").write_text("userId,movieId,stars\nann,[bold]Dune,5\n,Alien,4\ncem,\x1b[31mred,x\n")
    return data_dir


@pytest.fixture
def chefs(folder: Path, command: Command) -> Command:
    """Runs ``recserver chefs ARGUMENTS`` beside the data folder."""
    return partial(command, "chefs")


def lines_with(text: str, out: str) -> list[str]:
    return [line for line in out.splitlines() if text in line]


def test_preview_shows_before_and_after_and_what_to_change(chefs: Command) -> None:
    status, out, err = chefs("preview", "films")
    assert (status, err) == (0, "")
    before, after = out.split("Training rows")
    assert "Source rows" in before and "movieId" in before
    assert "item_id" in after and "movieId" not in after.splitlines()[2]
    assert "-> There is no column user_id; found 'userId': add userId->user_id to rename_columns." in out
    assert "-> Corrected rename_columns: movieId->item_id,userId->user_id" in out


def test_preview_shows_bad_rows_by_reason_with_examples(chefs: Command) -> None:
    status, out, _ = chefs("preview", "fixed", "--rows", "2")
    assert status == 0
    assert "3 rows read, 1 of them rejected." in out
    (bad,) = lines_with("user_id=''", out)
    assert "user_id is empty" in bad and "item_id='Alien'" in bad


def test_a_source_cannot_send_control_characters_to_the_terminal(chefs: Command) -> None:
    _, out, _ = chefs("preview", "fixed")
    assert "\x1b" not in out
    assert "[bold]Dune" in out and "\\x1b[31mred" in out


def test_preview_as_json(chefs: Command) -> None:
    status, out, _ = chefs("preview", "fixed", "--json", "--rows", "1")
    seen = json.loads(out)
    assert status == 0
    assert seen["renamed"] == [{"user_id": "ann", "item_id": "[bold]Dune", "rating": 5}]
    assert (seen["rows_read"], seen["rejected"]) == (3, {"user_id is empty": 1})


def test_many_columns_are_counted_where_they_do_not_fit(chefs: Command, folder: Path) -> None:
    names = ",".join(f"column{n}" for n in range(30))
    (folder / "films.csv").write_text(f"{names},userId,movieId\n" + ",".join("x" * 32) + "\n")
    _, out, _ = chefs("preview", "fixed")
    assert "and 23 more columns; --json shows all" in out
    assert lines_with("user_id", out.split("Training rows")[1])


def test_list(chefs: Command) -> None:
    status, out, _ = chefs("list")
    assert status == 0
    assert "films.csv" in lines_with("fixed", out)[0]
    assert "canary" not in out and "********" in out
    assert "half_life_days: must be days" in out
    (error,) = lines_with("broken: ", out)
    assert error == "broken: half_life_days: must be days, more than 0 and at most 36600."
    status, out, _ = chefs("list", "--json")
    listed = json.loads(out)
    assert set(listed) == {"films", "fixed", "gone", "hidden", "broken"}
    assert listed["broken"]["error"] == "half_life_days: must be days, more than 0 and at most 36600."


def test_unknown_keys_are_named(chefs: Command, folder: Path) -> None:
    (folder / "config/restaurant_data.yaml").write_text(
        "fixed: {type: csv, path: films.csv, delimeter: ',', rename_columns: 'userId->user_id,movieId->item_id'}\n"
    )
    warning = "'delimeter' is not a key of csv data chefs: did you mean delimiter?"
    assert f"fixed: {warning}" in chefs("list")[1]
    assert f"warning: {warning}" in chefs("preview", "fixed")[1]
    assert json.loads(chefs("preview", "fixed", "--json")[1])["warnings"] == [warning]


def test_preview_counts_ratings_that_are_not_numbers(chefs: Command) -> None:
    _, out, _ = chefs("preview", "fixed")
    assert "Rows where the rating is not a number (it counts as 1): 1" in out


def test_the_help_does_not_promise_a_folder(chefs: Command) -> None:
    for command in ("list", "preview"):
        status, out, _ = chefs(command, "--help")
        assert (status, "created if missing" in out, "it must exist" in out) == (0, False, True)


def test_list_of_an_empty_folder(chefs: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert chefs("list", "--data", "empty") == (0, "There are no data chefs in empty.\n", "")
    assert chefs("list", "--json", RECSERVER_DATA="empty") == (0, "{}\n", "")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["preview", "gone"], "There is no file 'gone.csv'"),
        (["preview", "hidden"], "127.0.0.1:1"),
        (["preview", "broken"], "The data chef cannot be used: half_life_days: must be days, more than 0"),
        (["preview", "nobody"], "There is no data chef 'nobody' in data; there are: 'films', 'fixed', 'gone'"),
        (
            ["preview", "films", "--data", "nowhere"],
            "There is no folder nowhere: name the data folder with --data.",
        ),
        (["list", "--data", "nowhere"], "There is no folder nowhere: name the data folder with --data."),
    ],
)
def test_failures_are_one_sentence(chefs: Command, arguments: list[str], sentence: str, tmp_path: Path) -> None:
    with stamina.set_testing(True, attempts=100, cap=True):  # as many attempts as otherwise, without pauses
        status, out, err = chefs(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("recserver: ") and sentence in err
    assert len(err.splitlines()) == 1 and "canary" not in err
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_cannot_be_parsed_is_named(chefs: Command, folder: Path) -> None:
    (folder / "config/restaurant_data.yaml").write_text("a: [")
    status, _, err = chefs("list")
    assert (status, "restaurant_data.yaml cannot be parsed" in err) == (1, True)


@pytest.mark.parametrize("rows", ["0", "1001", "x"])
def test_invalid_numbers_of_rows_are_refused(chefs: Command, rows: str) -> None:
    status, _, err = chefs("preview", "films", "--rows", rows)
    assert (status, "--rows" in err) == (2, True)


async def test_a_running_server_is_not_disturbed(chefs: Command, folder: Path, settings: Settings) -> None:
    async with RecServer(folder, settings, executor=ScriptedExecutor()) as rec:

        def content() -> dict[Path, bytes]:
            """The content of all files but the history, which the server itself reads."""
            files = (path for path in folder.rglob("*") if path.is_file())
            return {path: path.read_bytes() for path in files if not path.name.startswith("history.db")}

        before = content()
        status, out, _ = await asyncio.to_thread(chefs, "preview", "fixed", "--json")
        assert (status, json.loads(out)["rows_read"]) == (0, 3)
        assert content() == before
        assert set(await rec.list_data_chefs()) == {"films", "fixed", "gone", "hidden", "broken"}
