"""The command line. Only here are signals, logging and exit codes touched."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from recserver.errors import RecServerError

app = typer.Typer(
    name="recserver",
    help="A recommendation server: trains on the data you have, on a schedule, and answers GET /recommend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

chefs_app = typer.Typer(help="Look at data chefs, with or without a running server.", no_args_is_help=True)
app.add_typer(chefs_app, name="chefs")

CANNOT = 2
"""Exit status when the settings or the surroundings do not allow what was asked."""

DataFolder = Annotated[
    Path,
    typer.Option(
        "--data", envvar="RECSERVER_DATA", help="Folder with models/, tasks/ and config/; made if missing."
    ),
]
ReadFolder = Annotated[
    Path,
    typer.Option("--data", envvar="RECSERVER_DATA", help="Data folder, with config/; it must be there already."),
]
Host = Annotated[
    str | None,
    typer.Option("--host", help="Address to listen on [127.0.0.1]. Any but loopback needs RECSERVER_API_KEY."),
]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on [9999]; 0 takes a free one.")]


@app.command()
def serve(data: DataFolder = Path("data"), host: Host = None, port: Port = None) -> None:
    """Train on schedule and answer over HTTP until stopped.

    Every setting is also an environment variable: docs/settings.md lists them.
    """
    from recserver.cli.serve import serve as run

    run(data, host=host, port=port)


@app.command()
def demo(
    data: Annotated[Path, typer.Option("--data", help="Folder for the demo's files.")] = Path("recserver-demo"),
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep serving until stopped.")] = False,
) -> None:
    """Make a small restaurant data set, train on it through the HTTP API, and show recommendations."""
    from recserver.cli.demo import demo as run

    run(data, port=port, keep=keep)


AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


@chefs_app.command("list")
def list_chefs(data: ReadFolder = Path("data"), as_json: AsJson = False) -> None:
    """Show all data chefs of a data folder."""
    from recserver.cli.chefs import list_chefs as run

    run(data, as_json=as_json)


@chefs_app.command("preview")
def preview_chef(
    data_chef_id: Annotated[str, typer.Argument(metavar="ID", help="The data chef.")],
    data: ReadFolder = Path("data"),
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="How many rows to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the first rows of a source, before and after renaming, and what to change.

    The source is read here, not by a server; a running one is not disturbed.
    """
    from recserver.cli.chefs import preview_chef as run

    run(data, data_chef_id, rows=rows, as_json=as_json)


@app.command()
def version() -> None:
    """Show the version."""
    from importlib.metadata import version as version_of

    typer.echo(f"recserver {version_of('recserver')}")


def _one_numerical_thread() -> None:
    """One answer is too small a computation to be shared out: threads only wait for each other.

    Trainings are not concerned, they set their own number. It must be said before numpy is first imported.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def main() -> None:
    """Entry point of ``recserver``: errors of ours become one sentence and an exit status."""
    _one_numerical_thread()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of few characters is no reason to fail
    try:
        app()
    except RecServerError as error:
        typer.echo(f"recserver: {error}", err=True)
        sys.exit(CANNOT)
