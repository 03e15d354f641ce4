"""docs/plugins.md is carried out: its chef is put into a package, its test is run, its entry trains a model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from recserver import RecServer, Settings
from recserver.core.events import RunEnded

PAGE = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")


def block(language: str, after: str) -> str:
    """The first block of code in that language behind a text of the page."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE[PAGE.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package of the page as pip leaves it: its module, and what it says of itself."""
    folder = tmp_path / "site-packages"
    project = tomllib.loads(block("toml", "`pyproject.toml`:"))["project"]
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (folder / "recserver_logs.py").write_text(block("python", "`recserver_logs.py`:"))
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    points = (
        f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in named.items()) for group, named in groups
    )
    (about / "entry_points.txt").write_text("\n".join(points))
    return folder


def passing(folder: Path, packages: Path, test: str) -> subprocess.CompletedProcess[str]:
    """pytest over a file of the page, with the packages there installed."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), test],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_test_of_the_page_passes(package: Path, tmp_path: Path) -> None:
    (tmp_path / "test_logs.py").write_text(block("python", "`test_logs.py`:"))
    done = passing(tmp_path, package, "test_logs.py")
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed is not None, done.stdout + done.stderr
    assert f"runs {passed[1]} tests" in PAGE


def test_the_algorithm_of_the_page_passes_the_suite(tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    about = folder / "recserver_walks-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "recserver_walks.py").write_text(block("python", "`recserver_walks.py`:"))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: recserver-walks\nVersion: 1.0\n")
    group, point = re.findall(r'`\[project\.entry-points\."(.+?)"\]` with `(.+?)`', PAGE)[0]
    (about / "entry_points.txt").write_text(f"[{group}]\n{point.replace(chr(34), '')}\n")
    (tmp_path / "test_walks.py").write_text(block("python", "`test_walks.py`:"))
    done = passing(tmp_path, folder, "test_walks.py")
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed is not None, done.stdout + done.stderr
    assert f"It has {passed[1]} tests" in PAGE


def test_the_page_names_public_modules_only() -> None:
    imported = re.findall(r"^(?:from|import) (recserver(?:\.\w+)*)\b", PAGE, re.MULTILINE)
    mentioned = re.findall(r"`(recserver\.\w+(?:\.\w+)*)\.\w+`", PAGE)
    assert {*imported, *mentioned} == {"recserver.plugin", "recserver.testing"}


async def test_the_entry_of_the_page_trains_a_model(
    package: Path, data_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package)
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
