"""The programs of docs/embedding.md work: a script, an application, a notebook, a test."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer
from tests.helpers.doc_blocks import Block, block_after, blocks_of, read_page
from tests.helpers.page_reader import Transcript, follow_blocks
from tests.helpers.pytest_process import run_pytest
from tests.helpers.terminal import terminals

pytestmark = [pytest.mark.process, pytest.mark.slow]

PAGE = "docs/embedding.md"
FASTAPI, NOTEBOOK, TESTS = "## A FastAPI application", "## A notebook", "## Tests"


def line_of(heading: str) -> int:
    """The number of the line with a heading."""
    return read_page(PAGE).splitlines().index(heading) + 1


def programs() -> list[Block]:
    """The blocks that are run one after the other: the script and the first application."""
    return [block for block in blocks_of(PAGE, "bash", "python") if block.line < line_of(FASTAPI)]


def fastapi_blocks() -> list[Block]:
    """The second application, which needs the folder for itself."""
    blocks = blocks_of(PAGE, "bash", "python")
    return [block for block in blocks if line_of(FASTAPI) < block.line < line_of(NOTEBOOK)]


def cells() -> list[Block]:
    """The cells of the notebook."""
    blocks = blocks_of(PAGE, "bash", "python")
    return [block for block in blocks if line_of(NOTEBOOK) < block.line < line_of(TESTS)]


class Programs:
    """What the programs print when they are run for the first and for the second time, and what they leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed: list[Transcript] = []
        self.versions: list[dict[str, bytes]] = []

    async def run(self) -> None:
        async with terminals(self.folder) as opened:
            self.printed.append(await follow_blocks(programs(), opened))
        versions = self.folder / "cafe" / "models" / ".versions" / "m"
        self.versions.append({path.name: path.read_bytes() for path in versions.glob("*.pkl")})


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    if shutil.which("curl") is None:
        pytest.skip("install curl to run the commands of the documentation")
    followed = Programs(tmp_path_factory.mktemp("programs"))
    for _ in range(2):
        asyncio.run(followed.run())
    return followed


@pytest.mark.parametrize("time", [0, 1])
def test_the_script_and_the_application_recommend(followed: Programs, time: int) -> None:
    transcript = followed.printed[time]
    assert re.search("bob.*croissant", transcript.of("asyncio.run"))
    printed = transcript.of("http://localhost:8080")
    items, end = json.JSONDecoder().raw_decode(printed)
    assert items[0] == "croissant"
    assert json.loads(printed[end:])["status"] == "completed"
    assert transcript.refusals() == []


def test_running_the_script_again_keeps_the_model(followed: Programs) -> None:
    first, second = followed.versions
    assert first.keys() == {"1.pkl"}
    assert second == first


async def test_the_fastapi_application_recommends(followed: Programs) -> None:
    async with terminals(followed.folder) as opened:
        transcript = await follow_blocks(fastapi_blocks(), opened)
    items, end = json.JSONDecoder().raw_decode(printed := transcript.of("recommendations?n=0"))
    refused = json.loads(printed[end:])
    assert items[0] == "croissant"
    assert refused["code"] == "validation_error" and refused["detail"].startswith("n: must be a whole number")


@pytest.fixture
async def notebook(followed: Programs, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """The names of a notebook; what its cells have opened is closed at the end."""
    monkeypatch.chdir(followed.folder)
    monkeypatch.setenv("RECSERVER_TRAINING_PRIORITY", "low")
    names: dict[str, Any] = {}
    yield names
    if "rec" in names:
        await names["rec"].close()


async def run_cell(block: Block, names: dict[str, Any]) -> None:
    """Run a cell as a notebook does."""
    code = compile(block.code, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ended = eval(code, names)
    if inspect.iscoroutine(ended):
        await ended


async def test_the_cells_of_the_notebook_run_in_their_order(
    notebook: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for block in cells():
        await run_cell(block, notebook)
    printed = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in printed} >= {"ann", "bob", "completed"}
    (shown,) = re.findall(r"print\(run.*# (.*)", read_page(PAGE))
    assert shown in printed
    assert notebook["best"].items[0].because
    assert notebook["new"].source == "fold_in"
    assert notebook["ended"].outcome == "completed"
    rec = notebook["rec"]
    assert isinstance(rec, RecServer) and not rec.is_open


def test_the_test_passes(tmp_path: Path) -> None:
    code = block_after(PAGE, "python", TESTS).code
    assert len(run_pytest(tmp_path, {"test_shop.py": code}, "-p", "pytest_asyncio.plugin")) == 1
