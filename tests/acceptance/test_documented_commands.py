"""README.md is followed from top to bottom, twice in the same folder, and the pages that continue it."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.helpers.doc_blocks import block_after, blocks_of
from tests.helpers.page_reader import EVENTS, Transcript, follow
from tests.helpers.terminal import Terminals, terminals

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]

NOT_RUN = {
    "README.md": ("make demo", "docker build"),  # they install recserver
    "docs/http-api.md": ("postgresql://",),  # tests of exports have a database
    "docs/cli.md": ("postgresql://",),
}
"""By page, texts in blocks that are not run."""


class Readings(NamedTuple):
    """What the blocks printed, those of README.md the first and the second time, and where they were run."""

    readme: tuple[Transcript, Transcript]
    pages: dict[str, Transcript]
    folder: Path
    versions_after_first: dict[str, bytes]


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> Readings:
    if shutil.which("curl") is None:
        pytest.skip("install curl to run the commands of the documentation")
    folder = tmp_path_factory.mktemp("reader")
    (folder / "data").mkdir()  # as in a checkout
    return asyncio.run(follow_all(folder))


async def follow_all(folder: Path) -> Readings:
    async with terminals(folder) as opened:
        first = await follow_readme(opened)
        pages = {page: await follow(page, opened, NOT_RUN[page]) for page in ("docs/http-api.md", "docs/cli.md")}
    versions = versions_of_script(folder)
    async with terminals(folder) as opened:
        return Readings((first, await follow_readme(opened)), pages, folder, versions)


async def follow_readme(opened: Terminals) -> Transcript:
    transcript = await follow("README.md", opened, NOT_RUN["README.md"])
    await opened.wait_for(EVENTS, "^event: run_ended")
    return transcript


def versions_of_script(folder: Path) -> dict[str, bytes]:
    """The stored versions of the model of the script."""
    versions = folder / "shop" / "models" / ".versions" / "m"
    return {path.name: path.read_bytes() for path in versions.glob("*.pkl")}


def recommended(answer: dict[str, Any]) -> list[str]:
    """The items that an answer recommends, best first."""
    (items,) = answer["predictions"].values()
    return [item["item_id"] for item in items]


def test_only_repeated_creations_are_refused(readings: Readings) -> None:
    assert readings.readme[0].refusals() == []
    assert readings.readme[1].refusals() == ["model_exists", "data_chef_exists", "task_exists", "data_chef_exists"]
    assert [transcript.refusals() for transcript in readings.pages.values()] == [[], []]


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("block", ["/create_model", "by_hand_data:", "http://localhost:8080/rec"])
def test_each_way_to_use_it_recommends(readings: Readings, block: str, time: int) -> None:
    answer = readings.readme[time].answers(block)[-1]
    assert (answer["source"], recommended(answer)[0]) == ("personal", "croissant")


def test_a_data_chef_by_hand_leaves_the_others(readings: Readings) -> None:
    entries = yaml.safe_load((readings.folder / "data" / "config" / "restaurant_data.yaml").read_text())
    assert entries.keys() == {"demo_data", "by_hand_data", "menu", "visits", "clicks", "orders"}


def test_the_script_can_be_run_again_and_keeps_the_versions(readings: Readings) -> None:
    for transcript in readings.readme:
        assert re.search("bob.*croissant.*scone", transcript.of("await rec.train"))
    assert readings.versions_after_first.keys() == {"1.pkl"}
    versions = versions_of_script(readings.folder)
    assert versions.keys() == {"1.pkl", "2.pkl"}
    assert versions["1.pkl"] == readings.versions_after_first["1.pkl"]


@pytest.mark.parametrize("time", [0, 1])
def test_recommendations_are_explained_as_shown(readings: Readings, time: int) -> None:
    *_, explained, folded_in = readings.readme[time].answers("/session_recommend")
    (block,) = blocks_of("README.md", "json")
    assert block.code == block_after("docs/http-api.md", "json", "**Explanations.**").code
    shown = json.loads(block.code)
    best = explained["predictions"]["bob"][0]
    assert best["item_id"] == shown["item_id"]
    assert best["score"] == pytest.approx(shown["score"], abs=0.001)
    assert {one["item_id"]: one["share"] for one in best["because"]} == pytest.approx(
        {one["item_id"]: one["share"] for one in shown["because"]}, abs=0.001
    )
    assert (folded_in["source"], folded_in["items"][0]["item_id"]) == ("fold_in", "scone")


def test_the_preview_finds_nothing_wrong(readings: Readings) -> None:
    (answer,) = readings.readme[0].answers("/preview_data_chef")
    assert (answer["rows_read"], answer["rejected"], answer["suggestions"]) == (10, {}, [])


def test_a_run_is_followed_as_shown(readings: Readings) -> None:
    printed = readings.readme[0].of("recserver tasks history").splitlines()
    command, *shown = block_after("docs/cli.md", "console", "**`run NAME`**").code.splitlines()
    assert command == "$ recserver tasks run train_my_model | cat"
    begin = printed.index(shown[0])
    followed = printed[begin : begin + len(shown)]
    # What is known of a stage depends on the speed of the machine, and so do the seconds.
    assert [line.split(":")[0] for line in followed[:-1]] == [line.split(":")[0] for line in shown[:-1]]
    assert re.sub("[0-9.]+ s$", "", followed[-1]) == re.sub("[0-9.]+ s$", "", shown[-1])


@pytest.mark.parametrize(
    ("command", "heading"),
    [
        ("&exclude=scone", "### `GET /recommend?"),
        ("$B/recommend_batch", "### `POST /recommend_batch"),
        ("top.parquet", "### `POST /export_recommendations"),
        ("$B/rank", "### `POST /rank"),
    ],
)
def test_answers_have_the_shown_keys(readings: Readings, command: str, heading: str) -> None:
    shown = block_after("docs/http-api.md", "json", heading).code
    documented = [keys_of(json.loads(document)) for document in json_documents(shown)]
    answers = readings.pages["docs/http-api.md"].answers(command)
    assert answers
    assert [answer for answer in answers if keys_of(answer) not in documented] == []


def json_documents(text: str) -> list[str]:
    """The documents of a block, which begin at the beginning of a line."""
    return re.split(r"\n(?={)", text.strip())


def keys_of(value: Any) -> Any:
    """The keys of an answer at all levels; the first element of a list stands for all."""
    if isinstance(value, dict):
        return {key: keys_of(content) for key, content in value.items()}
    return [keys_of(value[0])] if isinstance(value, list) and value else None


def test_exported_files_can_be_read_as_shown(readings: Readings) -> None:
    (end,) = (answer for answer in readings.pages["docs/http-api.md"].answers("top.parquet") if "rows" in answer)
    assert (end["status"], end["users"]) == ("completed", 4)
    assert (readings.folder / "data" / "exports" / "top.parquet").exists()
    assert (readings.folder / "top.parquet").exists()
    items = readings.pages["docs/cli.md"].of("np.load")
    assert ast.literal_eval(items) == ["croissant", "espresso", "latte", "scone", "tea"]
