"""All blocks of code in the documentation are valid, whether or not a test runs them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from recserver import RecServer, Settings
from tests.helpers.doc_blocks import Block, block_after, blocks_of, pages, read_page, to_module, write_modules

ROOT = Path(__file__).parent.parent
BLOCKS = [block for page in pages() for block in blocks_of(page)]


def check_python(code: str) -> None:
    compile(code, "<block>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def check_bash(code: str) -> None:
    subprocess.run(["bash", "-n"], input=code, text=True, check=True, timeout=30)


def check_json(code: str) -> None:
    """Documents that begin at the beginning of a line."""
    for document in re.split(r"\n(?={)", code):
        json.loads(document)


CHECKS: dict[str, Callable[[str], object]] = {
    "python": check_python,
    "bash": check_bash,
    "json": check_json,
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "console": str,  # commands with what they print
    "text": str,
}


@pytest.mark.parametrize("page", pages())
def test_every_fence_belongs_to_a_block(page: str) -> None:
    assert len(re.findall(r"^ *```", read_page(page), re.MULTILINE)) == 2 * len(blocks_of(page))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_valid(block: Block) -> None:
    CHECKS[block.language](block.code)


def test_no_example_overwrites_a_model() -> None:
    """That deletes its versions, each time the example is run."""
    requests = [
        request
        for block in BLOCKS
        if block.language == "bash"
        for request in re.findall(r"/create_model\b[^']*'[^']*'", block.code)
    ]
    calls = [
        node
        for block in BLOCKS
        if block.language == "python"
        for node in ast.walk(ast.parse(block.code))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "create_model"
    ]
    assert requests and calls
    assert [request for request in requests if "overwrite" in request] == []
    assert [ast.unparse(call) for call in calls if any(word.arg == "overwrite" for word in call.keywords)] == []


async def test_every_entry_of_a_data_chef_is_valid(data_dir: Path, settings: Settings) -> None:
    entries = "".join(block.code for block in blocks_of("docs/data-chefs.md", "yaml"))
    (data_dir / "config").mkdir(parents=True)
    (data_dir / "config" / "restaurant_data.yaml").write_text(entries)
    async with RecServer(data_dir, settings) as rec:
        listed = await rec.list_data_chefs()
    assert listed.keys() == {"shop_events", "movies", "ratings", "orders", "events"}
    assert [name for name, entry in listed.items() if {"error", "warnings"} & entry.keys()] == []


def test_quoted_code_is_that_of_the_project() -> None:
    quoted = block_after("CONTRIBUTING.md", "python", "By example:").code
    assert quoted in (ROOT / "src" / "recserver" / "_internal" / "scheduling" / "retries.py").read_text(
        encoding="utf-8"
    )


def test_modules_for_type_checkers_have_the_lines_of_their_page(tmp_path: Path) -> None:
    for path, program in write_modules(tmp_path).items():
        module = path.read_text(encoding="utf-8")
        ast.parse(module)
        page = read_page(program[0].page).splitlines()
        written = {number: line.strip() for number, line in enumerate(module.splitlines()) if line.strip()}
        added = [number for number, line in written.items() if line != page[number].strip()]
        assert added in ([], [program[0].line - 2])  # the function of a notebook
        assert len(written) - len(added) == len(re.findall(r"\S.*", "".join(block.code for block in program)))


def test_a_notebook_becomes_a_function() -> None:
    cells = [Block("p.md", "python", 3, "import m\nx = await m.f()\n"), Block("p.md", "python", 7, "print(x)\n")]
    assert to_module(cells) == (
        "\nasync def cells() -> None:\n    import m\n    x = await m.f()\n\n\n    print(x)\n"
    )
    assert to_module(cells[1:]) == "\n" * 6 + "print(x)\n"
