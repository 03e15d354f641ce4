"""The options of ``recserver serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WritableFolder = Annotated[
    Path,
    typer.Option(
        "--data", envvar="RECSERVER_DATA", help="Folder with models/, tasks/ and config/; made if missing."
    ),
]
Host = Annotated[
    str | None,
    typer.Option("--host", help="Address to listen on [127.0.0.1]. Any but loopback needs RECSERVER_API_KEY."),
]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on [9999]; 0 takes a free one.")]


ReadOnly = Annotated[
    bool,
    typer.Option(
        "--read-only", help="Answer from the folder and change nothing, also beside a server that writes it."
    ),
]


Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Processes that answer on the port [1]: one writes the folder, the others follow it."
    ),
]


def serve(
    data: WritableFolder = Path("data"),
    host: Host = None,
    port: Port = None,
    read_only: ReadOnly = False,
    workers: Workers = None,
) -> None:
    """Train on schedule and answer over HTTP until stopped.

    Every setting is also an environment variable: docs/settings.md lists them. The exit status is 3 if another
    server has the data folder.
    """
    from recserver.cli.commands.serve import serve as run

    run(data, host=host, port=port, read_only=read_only or None, workers=workers)
