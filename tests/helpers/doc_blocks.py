"""Code blocks of Markdown pages.

``python -m tests.helpers.doc_blocks FOLDER`` writes the Python programs of README.md and docs/*.md into a folder,
as modules for a type checker. The lines of a module have the numbers that they have on the page.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CELL_FUNCTION = "async def cells() -> None:"


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: path of the page, relative to the project.
        line: number of its first line of code on the page.
    """

    page: str
    language: str
    line: int
    code: str

    def __str__(self) -> str:
        """Where the block is, as editors and terminals understand it."""
        return f"{self.page}:{self.line}"

    @property
    def begins_a_program(self) -> bool:
        """Whether a block of Python begins a program: its first statement is a docstring or an import."""
        first = ast.parse(self.code).body[0]
        is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        return is_docstring or isinstance(first, ast.Import | ast.ImportFrom)


def pages() -> list[str]:
    """All pages of the project, relative to it: README.md first, then docs/."""
    paths = [*sorted(ROOT.glob("*.md"), key=lambda path: path.name != "README.md"), *(ROOT / "docs").rglob("*.md")]
    return [path.relative_to(ROOT).as_posix() for path in paths]


def read_page(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in their order; without ``languages`` all of them."""
    text = read_page(page)
    found = [
        Block(page, match[1], text.count("\n", 0, match.start(2)) + 1, match[2]) for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def block_after(page: str, language: str, text: str) -> Block:
    """The first block of a language after a text of the page."""
    content = read_page(page)
    line = content.count("\n", 0, content.index(text)) + 1
    return next(block for block in blocks_of(page, language) if block.line > line)


def programs_of(page: str) -> list[list[Block]]:
    """The Python programs of a page: a block that begins one, and the blocks that continue it."""
    programs: list[list[Block]] = []
    for block in blocks_of(page, "python"):
        if block.begins_a_program or not programs:
            programs.append([])
        programs[-1].append(block)
    return programs


def to_module(program: list[Block]) -> str:
    """A program as a module, each line with its number on the page.

    Statements of a notebook, which await outside of functions, become the body of a function.
    """
    last = program[-1]
    lines = [""] * (last.line + last.code.count("\n"))
    awaits = any(_awaits_at_top_level(block.code) for block in program)
    if awaits:
        lines[program[0].line - 2] = _CELL_FUNCTION  # the line of the fence
    for block in program:
        for number, line in enumerate(block.code.splitlines(), block.line - 1):
            lines[number] = f"    {line}" if awaits and line else line
    return "\n".join(lines).rstrip("\n") + "\n"


def _awaits_at_top_level(code: str) -> bool:
    """Whether code is valid in a notebook only."""
    try:
        compile(code, "<block>", "exec")
    except SyntaxError:
        compile(code, "<block>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return True
    return False


def write_modules(folder: Path) -> dict[Path, list[Block]]:
    """Write the programs of README.md and docs/*.md; returns the files, such as ``embedding_line_12.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*_line_*.py"):
        stale.unlink()
    written = {}
    for page in pages():
        if page == "README.md" or Path(page).parent == Path("docs"):
            for program in programs_of(page):
                name = f"{Path(page).stem.lower().replace('-', '_')}_line_{program[0].line}.py"
                (folder / name).write_text(to_module(program), encoding="utf-8")
                written[folder / name] = program
    return written


if __name__ == "__main__":
    for path in write_modules(Path(sys.argv[1])):
        print(path)
