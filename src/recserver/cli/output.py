"""How commands write: what others wrote cannot drive the terminal, and what goes wrong is one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recserver.core.errors import RecServerError

EXIT_FAILED = 1
"""Exit status when what was asked cannot be done."""

EXIT_USAGE = 2
"""Exit status when an option is wrong."""

MAX_CELL_WIDTH = 40

WIDE_TERMINAL = 150
"""Characters of a terminal that has room for sentences within a table."""


class UsageError(RecServerError):
    """An option, or the environment variable that stands in its place, cannot be used."""


console = Console(highlight=False, soft_wrap=True)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Make of what goes wrong one sentence, and an exit status that scripts can tell from wrong options."""
    try:
        yield
    except UsageError as error:
        print_error(str(error))
        sys.exit(EXIT_USAGE)
    except RecServerError as error:
        print_error(str(error))
        sys.exit(EXIT_FAILED)


def print_error(message: str) -> None:
    """Say a sentence on standard error."""
    print(f"recserver: {printable(message)}", file=sys.stderr)  # noqa: T201 - this is the command line


def printable(text: str) -> str:
    """``text`` with its control characters escaped: what others wrote must not be able to drive the terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def one_line(value: object) -> str:
    """A value in one line of printable text: text as it is, None as ``-``, anything else as JSON."""
    if value is None or value == "":
        return "-" if value is None else "''"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def cell(value: Any, max_length: int | None = MAX_CELL_WIDTH) -> Text:
    """A value in a table, shortened to ``longest`` characters."""
    text = one_line(value)
    if value is None or value == "":
        return Text(text, style="dim")
    return Text(text if max_length is None or len(text) <= max_length else f"{text[: max_length - 1]}…")


def print_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    """``content`` for programs, and still harmless if it goes to a terminal."""
    text = json.dumps(content, ensure_ascii=False, indent=2)
    shown = (one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
    sys.stdout.write("".join(shown) + "\n")


def print_rows(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], *, key_column: str, optional_columns: Sequence[str] = ()
) -> None:
    """A table whose last column holds sentences.

    On a terminal that is too narrow for them they follow the table; on a pipe every row is one line.

    Args:
        named_by: the column that says which row a sentence below belongs to.
        spared: columns that a narrow terminal does without.
    """
    if not console.is_terminal:
        _print_lines(headers, rows)
        return
    narrow = console.width < WIDE_TERMINAL
    left_out = {*optional_columns, headers[-1]} if narrow else set()
    kept = [place for place, head in enumerate(headers) if head not in left_out]
    table = Table()
    for place in kept:
        table.add_column(headers[place], overflow="fold")
    for row in rows:
        table.add_row(*(cell(row[place], None) for place in kept))
    if narrow and optional_columns:
        table.caption = f"A wider terminal, a pipe and --json show {', '.join(optional_columns)} as well."
    console.print(table)
    for row in rows if narrow else ():
        if row[-1] is not None:
            console.print(f"{one_line(row[headers.index(key_column)])}: {one_line(row[-1])}", markup=False)


def _print_lines(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    lines = [list(headers), *([one_line(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())  # noqa: T201 - this is the command line
