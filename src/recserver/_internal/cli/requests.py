"""Commands that send one request to a running server: their options, and how they show its answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from typer import Option

from recserver._internal.cli.client import connect
from recserver._internal.cli.command import UsageError
from recserver._internal.cli.output import print_json, print_line
from recserver._internal.core.errors import quoted

Url = Annotated[
    str | None,
    Option(
        envvar="RECSERVER_URL",
        help="Address of the server; by default this machine, port RECSERVER_PORT or 9999.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    Option("--set", metavar="NAME=VALUE", help="A further field, as JSON or text; may be repeated."),
]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace it if it exists.")]


async def send(method: str, endpoint: str, url: str | None, /, *, as_json: bool, **fields: Any) -> None:
    """Send a request to the server, and show its answer. Fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    async with connect(url) as client:
        answer = await client.request(method, endpoint, given)
    print_answer(answer, as_json=as_json)


def print_answer(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """Show the answer to a request that changes something."""
    if as_json:
        print_json(answer)
        return
    print_line(str(answer.get("message")))
    for warning in answer.get("warnings", ()):
        print_line(f"warning: {warning}")
    if "run_id" in answer:
        print_line(f"Run id: {answer['run_id']}")


def parse_assignments(assignments: Iterable[str] | None) -> dict[str, Any]:
    """The fields of ``NAME=VALUE`` options. A value that is not valid JSON is text.

    Raises:
        UsageError: if an option has no ``=``, or a name occurs twice.
    """
    fields: dict[str, Any] = {}
    for assignment in assignments or ():
        name, sign, text = assignment.partition("=")
        if not (sign and name):
            raise UsageError(f"--set {quoted(assignment)} is not a pair: write it like --set n_components=16.")
        if name in fields:
            raise UsageError(f"--set {name} is given twice: give it once.")
        try:
            fields[name] = json.loads(text)
        except ValueError:
            fields[name] = text
    return fields
