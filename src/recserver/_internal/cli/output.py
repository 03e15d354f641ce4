"""How commands print: tables, lines and JSON, with control characters of foreign text escaped."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recserver._internal.core.errors import escape

MAX_CELL_WIDTH = 40

WIDE_TERMINAL = 150
"""Columns of a terminal that is wide enough for sentences within a table."""

console = Console(highlight=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    """Print a sentence on standard error."""
    print(f"recserver: {escape(message)}", file=sys.stderr)  # noqa: T201 - this is the command line


def print_line(text: str) -> None:
    """Print a line of text that may come from elsewhere."""
    console.print(escape(text), markup=False)


def one_line(value: object) -> str:
    """A value as one line of printable text: a string as it is, None as ``-``, anything else as JSON."""
    if value is None or value == "":
        return "-" if value is None else "''"
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def cell(value: Any, max_length: int | None = MAX_CELL_WIDTH) -> Text:
    """A value in a table, shortened to ``max_length`` characters."""
    text = one_line(value)
    if value is None or value == "":
        return Text(text, style="dim")
    return Text(text if max_length is None or len(text) <= max_length else f"{text[: max_length - 1]}…")


def format_time(timestamp: object) -> str:
    """A timestamp of the server, to the second."""
    if not isinstance(timestamp, str):
        return "-"
    return f"{timestamp[:19].replace('T', ' ')}Z" if timestamp.endswith("Z") else timestamp


def print_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print ``content`` for programs, with control characters escaped as JSON does it."""
    text = json.dumps(content, ensure_ascii=False, indent=2)
    escaped = (char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
    sys.stdout.write("".join(escaped) + "\n")


def print_rows(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], *, key_column: str, optional_columns: Sequence[str] = ()
) -> None:
    """Print a table whose last column holds sentences.

    On a narrow terminal the sentences are printed below the table; on a pipe every row is one line.

    Args:
        key_column: the column whose value precedes a sentence below the table.
        optional_columns: columns that a narrow terminal leaves out.
    """
    if not console.is_terminal:
        _print_lines(headers, rows)
        return
    narrow = console.width < WIDE_TERMINAL
    hidden = {*optional_columns, headers[-1]} if narrow else set()
    shown = [index for index, header in enumerate(headers) if header not in hidden]
    table = Table()
    for index in shown:
        table.add_column(headers[index], overflow="fold")
    for row in rows:
        table.add_row(*(cell(row[index], None) for index in shown))
    if narrow and optional_columns:
        table.caption = f"Hidden: {', '.join(optional_columns)}. Use a wider terminal, a pipe or --json."
    console.print(table)
    for row in rows if narrow else ():
        if row[-1] is not None:
            print_line(f"{one_line(row[headers.index(key_column)])}: {one_line(row[-1])}")


def _print_lines(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    lines = [list(headers), *([one_line(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())  # noqa: T201 - this is the command line
