"""The command line. Signals, logging and exit statuses are handled here and in the worker processes only."""

from __future__ import annotations

import os
from pkgutil import resolve_name
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from recserver._internal.core.errors import RecServerError
from recserver._internal.server.workers.process_setup import exit_with_error, replace_unencodable

COMMANDS = {
    "demo": "Make a small restaurant data set, train on it through the HTTP API, and show recommendations.",
    "evaluate": "Compare algorithms on your own data: accuracy on held-out interactions, time and memory.",
    "recommend": "Show what a model recommends to a user, or export recommendations for all users.",
    "serve": "Train on schedule and answer over HTTP until stopped.",
    "chefs": "List and preview data chefs; add and delete those of a running server.",
    "models": "List, export and import models; create, delete and roll back those of a running server.",
    "tasks": "Add, list, run and stop the tasks of a running server. RECSERVER_API_KEY is its API key, if any.",
}
"""Commands and their summaries. The module of the same name in ``commands`` holds a Typer application ``app``."""


class LazyGroup(TyperGroup):
    """Imports the module of a command only when the command is run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # Typer may have its own copy of click's types
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = typer.main.get_command(resolve_name(f"recserver._internal.cli.commands.{name}:app"))
        return name, command, rest


app = typer.Typer(
    name="recserver",
    help="A recommendation server: trains on the data you have, on a schedule, and answers GET /recommend.",
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)  # LazyGroup runs the command of the module instead


@app.command()
def version() -> None:
    """Show the version."""
    from importlib.metadata import version as version_of

    typer.echo(f"recserver {version_of('recserver')}")


def _show_version(requested: bool) -> None:
    if requested:
        version()
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The options of the command itself."""


def _limit_numerical_threads() -> None:
    """Compute each answer with one thread: it is too small to be divided among several.

    Trainings set their own number of threads. Call it before numpy is first imported.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def main() -> None:
    """Entry point of ``recserver``: a :class:`RecServerError` ends it with one sentence and an exit status."""
    _limit_numerical_threads()
    replace_unencodable()
    try:
        app()
    except RecServerError as error:
        exit_with_error(error)
