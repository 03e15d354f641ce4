"""The examples of docs/plugins.md work: its packages are installed, its tests run, its entry trains a model."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from recserver import RecServer, Settings
from recserver._internal.core.events import RunEnded
from tests.helpers.doc_blocks import block_after, read_page
from tests.helpers.pytest_process import run_pytest

pytestmark = pytest.mark.process

PAGE = read_page("docs/plugins.md")


def block(language: str, after: str) -> str:
    """The first block of code in that language after a text of the page."""
    return block_after("docs/plugins.md", language, after).code


def install(folder: Path, name: str, version: str, module: str, entry_points: dict[str, dict[str, str]]) -> None:
    """Put the one module of a package, which is on the page, where pip would put it, with its metadata."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (folder / module).write_text(block("python", f"`{module}`:"))
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line for group, points in entry_points.items() for line in (f"[{group}]", *map(" = ".join, points.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages of the page installed."""
    folder = tmp_path_factory.mktemp("site-packages")
    project = tomllib.loads(block("toml", "`pyproject.toml`:"))["project"]
    install(folder, project["name"], project["version"], "recserver_logs.py", project["entry-points"])
    group, point = re.findall(r'`\[project\.entry-points\."(.+?)"\]` with `(.+?)`', PAGE)[0]
    name, value = point.replace('"', "").split(" = ")
    install(folder, "recserver-walks", "1.0", "recserver_walks.py", {group: {name: value}})
    return folder


@pytest.fixture(scope="module")
def passed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The tests of the two files of tests of the page, all of which pass."""
    tests = {name: block("python", f"`{name}`:") for name in ("test_logs.py", "test_walks.py")}
    return run_pytest(tmp_path_factory.mktemp("tests"), tests, python_path=[packages])


@pytest.mark.slow
@pytest.mark.parametrize(("file", "start"), [("test_logs.py", "runs"), ("test_walks.py", "It has")])
def test_the_tests_of_the_page_pass(passed: list[str], file: str, start: str) -> None:
    assert f"{start} {sum(test.startswith(file) for test in passed)} tests" in PAGE


def test_the_page_names_public_modules_only() -> None:
    imported = re.findall(r"^(?:from|import) (recserver(?:\.\w+)*)\b", PAGE, re.MULTILINE)
    mentioned = re.findall(r"`(recserver\.\w+(?:\.\w+)*)\.\w+`", PAGE)
    assert {*imported, *mentioned} == {"recserver.plugin", "recserver.testing"}


async def test_the_entry_of_the_page_trains_a_model(
    packages: Path, data_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(packages)
    (data_dir / "events").mkdir(parents=True)
    (data_dir / "config").mkdir()
    for day in (1, 2):
        rows = [{"customer": f"u{n}", "product": f"i{n % day}"} for n in range(4)]
        lines = [json.dumps(row) for row in rows] + ["no JSON"]
        (data_dir / "events" / f"2026-01-0{day}.jsonl").write_text("\n".join(lines) + "\n")
    entry = block("yaml", "## Its entries")
    (data_dir / "config" / "restaurant_data.yaml").write_text(entry)
    (name,) = yaml.safe_load(entry)
    async with RecServer(data_dir, settings) as rec:
        seen = await rec.validate_data_chef(**json.loads(block("json", "## Its entries")))
        assert (seen["rows_read"], seen["rejected"]) == (10, {"the row is not a JSON object": 2})
        assert "error" not in (await rec.list_data_chefs())[name]
        await rec.create_model("m", algorithm="nmf", hyperparameters={"n_components": 1})
        with rec.events.listen() as events:
            await rec.add_model_task("t", model_id="m", data_chef_id=name, interval=3600)
            report = (await events.next(RunEnded)).data_report
        assert (await rec.get_model_info("m"))["status"] == "completed"
        assert report is not None and (report["n_pairs"], report["rows_kept"]) == (6, 8)
